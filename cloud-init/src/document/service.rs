//! `coreos.fleet`, which goes into `fleet.conf`, and the sections whose settings services read from their environment,
//! as CoreOS passed them on: a drop-in with a variable for each.

use super::Reading;
use crate::{
    reader::{Fields, Reader},
    yaml::{Node, Value},
};

/// Settings of a service, for a drop-in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The service.
    pub unit: &'static str,
    /// Variables and their values.
    pub variables: Vec<(String, String)>,
}

/// The name of the drop-ins.
const DROP_IN: &str = "20-cloud-config.conf";

impl Settings {
    /// The file of the drop-in.
    #[must_use]
    pub fn path(&self) -> String {
        format!("/etc/systemd/system/{}.d/{DROP_IN}", self.unit)
    }

    /// What is in it.
    #[must_use]
    pub fn content(&self) -> String {
        let mut content = "# Written by fleetd cloud-config.\n[Service]\n".to_owned();
        for (name, value) in &self.variables {
            // Systemd resolves quotes, backslashes and specifiers in what it reads.
            let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%");
            content += &format!("Environment=\"{name}={value}\"\n");
        }
        content
    }
}

/// A section of `coreos` and the service that it is about.
struct Section {
    key: &'static str,
    unit: &'static str,
    prefix: &'static str,
    keys: &'static [&'static str],
}

/// The keys of etcd 2, those that are etcd 3's too, and those that etcd 3 has more.
const ETCD: [&str; 62] = [
    "advertise_client_urls",
    "auth_token",
    "auto_compaction_mode",
    "auto_compaction_retention",
    "auto_tls",
    "ca_file",
    "cert_file",
    "client_cert_auth",
    "cors",
    "data_dir",
    "debug",
    "discovery",
    "discovery_fallback",
    "discovery_proxy",
    "discovery_srv",
    "election_timeout",
    "enable_pprof",
    "enable_v2",
    "force_new_cluster",
    "grpc_keepalive_interval",
    "grpc_keepalive_min_time",
    "grpc_keepalive_timeout",
    "heartbeat_interval",
    "host_whitelist",
    "initial_advertise_peer_urls",
    "initial_cluster",
    "initial_cluster_state",
    "initial_cluster_token",
    "key_file",
    "listen_client_urls",
    "listen_metrics_urls",
    "listen_peer_urls",
    "log_level",
    "log_outputs",
    "log_package_levels",
    "logger",
    "max_request_bytes",
    "max_snapshots",
    "max_txn_ops",
    "max_wals",
    "metrics",
    "name",
    "peer_auto_tls",
    "peer_ca_file",
    "peer_cert_file",
    "peer_client_cert_auth",
    "peer_key_file",
    "peer_trusted_ca_file",
    "pre_vote",
    "proxy",
    "proxy_dial_timeout",
    "proxy_failure_wait",
    "proxy_read_timeout",
    "proxy_refresh_interval",
    "proxy_write_timeout",
    "quota_backend_bytes",
    "snapshot_count",
    "strict_reconfig_check",
    "trusted_ca_file",
    "unsafe_no_fsync",
    "wal_dir",
    "cipher_suites",
];

/// The keys of etcd 0.4 that later ones dropped, and what took their place.
const OLD_ETCD: [(&str, &str); 22] = [
    ("addr", "advertise-client-urls"),
    ("bind_addr", "listen-client-urls"),
    ("cluster_active_size", "nothing: every member votes"),
    ("cluster_remove_delay", "nothing: members are removed by hand"),
    ("cluster_sync_interval", "nothing"),
    ("graphite_host", "metrics over HTTP"),
    ("http_read_timeout", "nothing"),
    ("http_write_timeout", "nothing"),
    ("max_result_buffer", "nothing"),
    ("max_retry_attempts", "nothing"),
    ("peer_addr", "initial-advertise-peer-urls"),
    ("peer_bind_addr", "listen-peer-urls"),
    ("peer_election_timeout", "election-timeout"),
    ("peer_heartbeat_interval", "heartbeat-interval"),
    ("peers", "initial-cluster"),
    ("peers_file", "initial-cluster"),
    ("retry_interval", "nothing"),
    ("snapshot", "snapshot-count"),
    ("trace", "log-level"),
    ("verbose", "log-level"),
    ("very_verbose", "log-level"),
    ("very_very_verbose", "log-level"),
];

const SECTIONS: [Section; 4] = [
    Section { key: "etcd", unit: "etcd.service", prefix: "ETCD_", keys: &ETCD },
    Section { key: "etcd2", unit: "etcd.service", prefix: "ETCD_", keys: &ETCD },
    Section {
        key: "flannel",
        unit: "flanneld.service",
        prefix: "FLANNELD_",
        keys: &[
            "etcd_cafile",
            "etcd_certfile",
            "etcd_endpoints",
            "etcd_keyfile",
            "etcd_password",
            "etcd_prefix",
            "etcd_username",
            "iface",
            "interface",
            "ip_masq",
            "public_ip",
            "subnet_file",
        ],
    },
    Section {
        key: "locksmith",
        unit: "locksmithd.service",
        prefix: "LOCKSMITHD_",
        keys: &[
            "endpoint",
            "etcd_cafile",
            "etcd_certfile",
            "etcd_keyfile",
            "etcd_password",
            "etcd_username",
            "group",
            "window_length",
            "window_start",
        ],
    },
];

/// The sections whose settings go to a service. Of two for one service the later in the list counts.
pub(super) fn settings(coreos: &Fields<'_>, reader: &mut Reader) -> Vec<Settings> {
    let mut all: Vec<Settings> = Vec::new();
    for section in &SECTIONS {
        let Some(node) = coreos.get(section.key) else { continue };
        let mark = coreos.mark_of(section.key);
        let what = format!("coreos.{}", section.key);
        let mut variables = Vec::new();
        let fields = reader.any_fields(node, &what);
        for (key, mark, value) in &fields.entries {
            let old = OLD_ETCD.iter().find(|(old, _)| section.prefix == "ETCD_" && old == key);
            if let Some((_, instead)) = old {
                let key = key.replace('_', "-");
                reader.note(*mark, format!("{what}.{key} is of etcd 0.4 and left out: instead there is {instead}"));
                continue;
            }
            if !section.keys.contains(&&**key) {
                reader.unknown(key, *mark, &what, section.keys);
                continue;
            }
            if value.is_null() {
                continue;
            }
            if let Some(text) = value_of(reader, value, &format!("{what}.{}", key.replace('_', "-"))) {
                variables.push((variable(section, key), text));
            }
        }
        if variables.is_empty() {
            continue;
        }
        let settings = Settings { unit: section.unit, variables };
        reader.note(mark, format!("{what} is written to {} for {}", settings.path(), section.unit));
        match all.iter_mut().find(|known| known.unit == settings.unit) {
            Some(known) => {
                reader.note(mark, format!("{what} takes the place of coreos.etcd: a host has one etcd"));
                *known = settings;
            }
            None => all.push(settings),
        }
    }
    all
}

fn variable(section: &Section, key: &str) -> String {
    match (section.key, key) {
        ("flannel", "interface") => "FLANNELD_IFACE".into(),
        ("locksmith", "window_start") => "LOCKSMITHD_REBOOT_WINDOW_START".into(),
        ("locksmith", "window_length") => "LOCKSMITHD_REBOOT_WINDOW_LENGTH".into(),
        _ => format!("{}{}", section.prefix, key.to_ascii_uppercase()),
    }
}

/// One value, or a list that becomes one with commas between.
fn value_of(reader: &mut Reader, node: &Node, what: &str) -> Option<String> {
    match &node.value {
        Value::List(_) => {
            let items: Vec<String> = reader.lines(node, what).into_iter().map(|item| item.text).collect();
            Some(items.join(","))
        }
        _ => reader.line(node, what).map(|text| text.text),
    }
}

/// Sections that are read and do nothing: there is no updater here.
pub(super) fn accepted(coreos: &Fields<'_>, reader: &mut Reader) {
    let sections: [(&str, &[&str], &str); 2] = [
        (
            "update",
            &["disable_marking", "download_user", "group", "reboot_strategy", "server"],
            "the distribution updates this host, and nothing here reboots it; see `fleetctl drain`",
        ),
        (
            "oem",
            &["bug_report_url", "home_url", "id", "name", "version_id"],
            "nothing here asks who made the image; MachineMetadata= is asked of coreos.fleet.metadata",
        ),
    ];
    for (section, keys, why) in sections {
        let Some(node) = coreos.get(section) else { continue };
        let what = format!("coreos.{section}");
        let fields = reader.fields(node, &what, keys);
        for (key, _, value) in &fields.entries {
            reader.line(value, &format!("{what}.{}", key.replace('_', "-")));
        }
        let strategies = ["best-effort", "etcd-lock", "off", "reboot"];
        if let Some(node) = fields.get("reboot_strategy")
            && let Some(text) = reader.line(node, "coreos.update.reboot-strategy")
            && !strategies.contains(&&*text.text)
            // YAML 1.1 has `off` as a word for false, which CoreOS took for it.
            && text.text != "false"
        {
            let message = format!("coreos.update.reboot-strategy cannot be {:?}", text.text);
            reader.fault(node.mark, message, format!("known are {}", strategies.join(", ")));
        }
        reader.note(coreos.mark_of(section), format!("{what} is accepted and does nothing: {why}"));
    }
}

/// `coreos.fleet`
pub(super) fn fleet(node: &Node, reader: &mut Reader, reading: &Reading<'_>) -> Vec<(String, String)> {
    let what = "coreos.fleet";
    let mut options = Vec::new();
    let fields = reader.any_fields(node, what);
    for (key, mark, value) in &fields.entries {
        let shown = key.replace('_', "-");
        if reading.gone.contains(&&**key) {
            reader.note(*mark, format!("{what}.{shown} is left out: it has no meaning any more"));
            continue;
        }
        if !reading.options.contains(&&**key) {
            reader.unknown(key, *mark, what, reading.options);
            continue;
        }
        if value.is_null() {
            continue;
        }
        let Some(text) = value_of(reader, value, &format!("{what}.{shown}")) else { continue };
        match (reading.check)(key, &text) {
            Ok(notes) => {
                notes.iter().for_each(|note| reader.note(value.mark, format!("{what}.{shown}: {note}")));
                options.push((key.clone(), text));
            }
            Err(error) => reader.fault(value.mark, format!("{what}.{shown}: {error}"), "see docs/configuration.md"),
        }
    }
    options
}
