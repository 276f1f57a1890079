//! Scripts that were kept, each for a fault that it found: the first line of its file says which.

#![cfg(tokio_unstable)]

use std::{
    fs,
    path::{Path, PathBuf},
};

use fleet_sim::{Script, play};

#[test]
fn kept_scripts_hold() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts");
    let mut files: Vec<PathBuf> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "script"));
    files.sort();
    assert!(!files.is_empty());
    let mut broken = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let (found, name) = (text.lines().next().unwrap_or_default(), file.file_name().unwrap().display());
        assert!(found.starts_with("# "), "{name} does not say what it found");
        let script: Script = text.parse().unwrap_or_else(|error| panic!("{name}: {error:#}"));
        broken.extend(play(&script).violations.iter().map(|violation| format!("{name} ({found}): {violation}")));
    }
    assert!(broken.is_empty(), "{broken:#?}");
}
