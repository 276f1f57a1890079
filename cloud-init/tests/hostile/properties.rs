//! What holds for any document, however hostile. Each function takes raw input and panics when a property is broken.
//!
//! `cloud-init/tests/hostile.rs` runs them under proptest, the target in `fuzz/` under libFuzzer: the code is the same.

use std::{collections::BTreeSet, net::Ipv4Addr};

use fleet_cloud_config::{Action, Addresses, Document, Entry, Present, Reading, UnitState, plan};

/// Text that claims to be a cloud-config: read, or refused with places in it; and for any host there is a plan, which
/// names nothing twice.
pub fn cloud_config(text: &str) {
    let text = format!("#cloud-config\n{text}");
    let here = Some(Ipv4Addr::new(10, 0, 0, 7));
    let reading = Reading {
        addresses: Addresses { private: here, public: here },
        options: &["etcd_servers", "metadata", "public_ip"],
        gone: &["engine_reconcile_interval"],
        check: &|_, value| if value.contains('!') { Err("no".into()) } else { Ok(Vec::new()) },
    };
    let lines = text.replace("\r\n", "\n").replace('\r', "\n").lines().count();
    let document = match Document::parse(&text, reading) {
        Ok(document) => document,
        Err(faults) => {
            assert!(!faults.is_empty());
            for fault in faults.iter().take(3) {
                assert!((1..=lines + 1).contains(&fault.mark.line), "{fault:?} of {lines} lines");
                assert!(fault.render("f", &text).lines().count() >= 4, "{fault:?}");
            }
            return;
        }
    };
    assert!(document.notes.iter().all(|note| (1..=lines + 1).contains(&note.line)), "{:?}", document.notes);
    for unit in &document.cluster {
        assert!(!unit.file.options().is_empty() && unit.file.canonical().len() <= 64 << 10, "{}", unit.name);
    }
    let mut masked = Present::default();
    for unit in &document.units {
        masked.paths.insert(unit.path(), Entry::Link("/dev/null".into()));
        let state = UnitState { load: "loaded".into(), active: "active".into(), file: "enabled".into() };
        masked.units.insert(unit.name.clone(), state);
    }
    for present in [Present::default(), masked] {
        let plan = plan(&document, &present);
        let paths: Vec<String> = plan.actions.iter().filter_map(Action::path).collect();
        assert_eq!(paths.iter().collect::<BTreeSet<_>>().len(), paths.len(), "{paths:?}");
        let inside = |path: &String| path.starts_with('/') && !path.split('/').any(|part| part == "..");
        assert!(paths.iter().all(inside), "{paths:?}");
    }
}
