//! As much of Butane as the example in `cloud-init/ignition` needs: from its YAML to the JSON of Ignition.
//!
//! Strict: a key that is not known here is an error. Butane itself is in no package that a test could install; that what
//! comes out is Ignition's, Ignition says.

use std::{
    fmt::Write as _,
    io::Write as _,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    variant: String,
    version: String,
    passwd: Passwd,
    storage: Storage,
    systemd: Systemd,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Passwd {
    groups: Vec<Group>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Group {
    name: String,
    system: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Storage {
    files: Vec<File>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    path: String,
    mode: u32,
    contents: Contents,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Contents {
    inline: Option<String>,
    local: Option<String>,
    source: Option<String>,
    verification: Option<Verification>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Verification {
    hash: String,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Systemd {
    units: Vec<Unit>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Unit {
    name: String,
    enabled: bool,
}

/// The Ignition configuration that a Butane configuration stands for; `local` reads the files that it names.
///
/// # Errors
/// What in it is not known.
pub fn translate(bu: &str, local: impl Fn(&str) -> Result<String>) -> Result<Value> {
    let config: Config = serde_json::from_value(yaml(bu)?).context("this is no Butane that is known here")?;
    let version = match (&*config.variant, &*config.version) {
        ("flatcar", "1.0.0") | ("fcos", "1.4.0") => "3.3.0",
        (variant, version) => bail!("{variant} {version} is not known here"),
    };
    let file = |file: &File| -> Result<Value> {
        let source = match &file.contents {
            Contents { inline: Some(text), local: None, source: None, .. } => data_url(text),
            Contents { inline: None, local: Some(path), source: None, .. } => data_url(&local(path)?),
            Contents { inline: None, local: None, source: Some(url), .. } => url.clone(),
            _ => bail!("{} has not one of `inline`, `local` and `source`", file.path),
        };
        let mut contents = json!({ "source": source });
        if let Some(verification) = &file.contents.verification {
            contents["verification"] = json!(verification);
        }
        Ok(json!({ "path": file.path, "mode": file.mode, "contents": contents }))
    };
    Ok(json!({
        "ignition": { "version": version },
        "passwd": config.passwd,
        "storage": { "files": config.storage.files.iter().map(file).collect::<Result<Vec<_>>>()? },
        "systemd": config.systemd,
    }))
}

/// YAML as JSON. Python has a parser wherever cloud-init and Ansible are.
fn yaml(text: &str) -> Result<Value> {
    let mut python = Command::new("/usr/bin/python3")
        .args(["-c", "import json, sys, yaml; json.dump(yaml.safe_load(sys.stdin), sys.stdout)"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot run python3")?;
    python.stdin.take().context("python3 has no standard input")?.write_all(text.as_bytes())?;
    let output = python.wait_with_output()?;
    ensure!(output.status.success(), "this is no YAML, or python3 has no parser of it");
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// A text as a URL (RFC 2397).
fn data_url(text: &str) -> String {
    text.bytes().fold("data:,".to_owned(), |mut url, byte| {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'/' => url.push(char::from(byte)),
            _ => write!(url, "%{byte:02X}").expect("a string takes all"),
        }
        url
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misspelt_keys_are_refused() {
        let good =
            "variant: flatcar\nversion: 1.0.0\npasswd: {groups: []}\nstorage: {files: []}\nsystemd: {units: []}\n";
        let none = |_: &str| bail!("nothing is local");
        assert_eq!(translate(good, none).unwrap()["ignition"]["version"], "3.3.0");
        assert!(translate(&good.replace("files", "flies"), none).is_err());
        assert_eq!(data_url("a b\n%"), "data:,a%20b%0A%25");
    }
}
