use super::*;

fn load(text: &str, variables: &[(&str, &str)]) -> anyhow::Result<(Config, Vec<String>)> {
    let variables = variables.iter().map(|(name, value)| ((*name).into(), (*value).into()));
    Config::read(Path::new("fleet.conf"), text.into(), variables)
}

fn urls(config: &Config) -> Vec<String> {
    config.etcd_servers.iter().map(|server| server.url(config.tls_by_default())).collect()
}

#[test]
fn files_of_coreos_fleet_are_read_as_they_are() {
    let text = "# comment\nverbosity=1\netcd_servers=[\"http://10.0.0.1:2379\", \"http://10.0.0.2:2379\"]\n\
                etcd_request_timeout=1.5\npublic_ip=192.0.2.7\nmetadata=\"region=us, disk=ssd\"\nagent_ttl=\"1m30s\"\n\
                token_limit=50\nengine_reconcile_interval=2\n";
    let (config, warnings) = load(text, &[("FLEET_PUBLIC_IP", "192.0.2.8"), ("FLEET_OTHER", "x")]).unwrap();
    assert_eq!(urls(&config), ["http://10.0.0.1:2379", "http://10.0.0.2:2379"]);
    assert_eq!(config.public_ip.as_deref(), Some("192.0.2.8"), "a variable wins");
    assert_eq!(config.metadata, [("region".into(), "us".into()), ("disk".into(), "ssd".into())].into());
    assert_eq!(config.agent_ttl, Duration::from_secs(90));
    assert_eq!((config.verbosity, config.token_limit), (1, 50));
    assert_eq!(config.etcd_request_timeout, Duration::from_millis(1500));
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    let (config, _) = load("", &[("FLEET_ETCD_SERVERS", "http://a:1,http://b:2")]).unwrap();
    assert_eq!(urls(&config), ["http://a:1", "http://b:2"]);
}

#[test]
fn values_are_taken_in_every_form_that_coreos_fleet_took() {
    for (text, expected) in [
        ("etcd_servers=http://a:4001,http://b:4001", &["http://a:4001", "http://b:4001"][..]),
        ("etcd_servers=[http://a:4001, http://b:4001]", &["http://a:4001", "http://b:4001"]),
        ("etcd_servers=['http://a:4001']", &["http://a:4001"]),
        ("etcd_servers=\"http://a:4001/\"", &["http://a:4001"]),
        ("etcd_servers=[\"http://a\",]", &["http://a"]),
        ("etcd_servers=a:2379", &["http://a:2379"]),
        ("etcd_servers=a:2379\netcd_cafile=/ca.pem", &["https://a:2379"]),
        ("etcd_servers=http://[fd00::1]:2379", &["http://[fd00::1]:2379"]),
        ("\u{feff}etcd_servers=http://a:1\r\n", &["http://a:1"]),
        ("[section]\n; comment\netcd_servers = http://a:1", &["http://a:1"]),
    ] {
        assert_eq!(urls(&load(text, &[]).unwrap().0), expected, "{text}");
    }
    for yes in ["true", "True", "1", "t"] {
        assert!(load(&format!("disable_engine={yes}"), &[]).unwrap().0.disable_engine, "{yes}");
    }
    assert_eq!(load("verbosity=10", &[]).unwrap().0.verbosity, 2);
    assert_eq!(load("verbosity = 1 # why", &[]).unwrap().0.verbosity, 1);
    assert_eq!(load("public_ip=\"\"", &[]).unwrap().0.public_ip, None);
    assert_eq!(load("public_ip=[FD00::0001]", &[]).unwrap().0.public_ip.as_deref(), Some("fd00::1"));
    assert_eq!(load("etcd_request_timeout=500ms", &[]).unwrap().0.etcd_request_timeout, Duration::from_millis(500));
    for password in ["0123", "1e3", "0x10", "1_000", "12#4", "a b", "2024-01-01", "true"] {
        let (config, _) = load(&format!("etcd_username=me\netcd_password={password}"), &[]).unwrap();
        assert_eq!(config.etcd_user, Some(("me".into(), password.into())), "not read as a number or a date");
    }
}

#[test]
fn empty_variable_counts_as_not_set() {
    let all: Vec<(String, String)> =
        OPTIONS.iter().map(|option| (format!("FLEET_{}", option.to_uppercase()), " ".into())).collect();
    let (config, warnings) = Config::read(Path::new("fleet.conf"), b"public_ip=10.0.0.7".into(), all).unwrap();
    assert_eq!(config, Config { public_ip: Some("10.0.0.7".into()), ..Config::default() });
    assert!(warnings.is_empty(), "{warnings:?}");
}

#[test]
fn faults_name_the_file_the_line_and_the_mend() {
    let host = "expect an address, as in 10.0.0.1 or fd00::1, or a host's name";
    let urls = "expect URLs such as http://10.0.0.1:2379";
    for (text, words) in [
        ("verbosity=0\nnonsense", &["fleet.conf:2: expect `option = value`"][..]),
        ("public_ip=$private_ipv4", &["fleet.conf:1: option public_ip cannot be \"$private_ipv4\"", host]),
        ("public_ip=10.0.0.1/24", &["behind a slash", host, "did you mean 10.0.0.1?"]),
        ("public_ip=10.0.0.1:22", &["has a port", host, "did you mean 10.0.0.1?"]),
        ("public_ip=10.0.0.1 10.0.0.2", &["has a blank", host]),
        ("public_ip=999.1.2.3", &["four numbers", host]),
        ("public_ip=unix:///run/fleet.sock", &["it is a URL", host]),
        ("public_ip=fe80::1%eth0", &["%eth0 names an interface", host]),
        ("public_ip=0.0.0.0", &["no single host", host]),
        ("public_ip=[\"10.0.0.1\"]", &["cannot be [\"10.0.0.1\"]: expect one text, not a list"]),
        ("etcd_servers=", &[urls]),
        ("etcd_servers=[[\"http://a\"]]", &["expect a list of texts"]),
        ("etcd_servers=[\n\"http://a\",\n]\nverbosity=1", &[":1: option etcd_servers is a list of several lines"]),
        ("etcd_servers=http://a:2379/v2", &["/v2", urls, "did you mean http://a:2379?"]),
        ("etcd_servers=http://a:2379 http://b:2379", &["has a blank", urls, "with commas between"]),
        ("etcd_servers=htp://a:2379", &["\"htp\"", urls, "did you mean http://a:2379?"]),
        ("etcd_servers=http://fd00::1:2379", &["in brackets", "did you mean http://[fd00::1]:2379?"]),
        ("agent_ttl=soon", &[":1: option agent_ttl cannot be \"soon\": expect a time such as \"10s\""]),
        ("agent_ttl=1s", &[":1: option agent_ttl", "at least 2s"]),
        ("agent_ttl=9999999999999999999s9999999999999999999s", &[":1: option agent_ttl", "expect a time"]),
        ("agent_ttl=\"1000000000h\"", &[":1: option agent_ttl", "at most a day"]),
        ("etcd_request_timeout=0", &[":1: option etcd_request_timeout", "more than 0"]),
        ("etcd_request_timeout=-1", &["expect seconds, as in 5 or 1.5"]),
        ("etcd_request_timeout=nan", &["expect seconds, as in 5 or 1.5"]),
        ("metadata=\"ssd\"", &["expect \"key=value,key=value\", not \"ssd\""]),
        ("metadata=a=b,=c", &["\"=c\" has no key"]),
        ("metadata=[\"a=b\"]", &["as one text"]),
        ("metadata={a=1}", &["cannot be {a=1}: expect \"key=value,key=value\""]),
        ("listen=[\"ftp://x\"]", &["expect unix:///PATH or tcp://IP:PORT"]),
        ("listen=unix://run/fleet.sock", &["expect unix:///PATH"]),
        ("listen=tcp://10.0.0.1:0", &["expect unix:///PATH or tcp://IP:PORT"]),
        ("verbosity=-1", &["expect a whole number, 0 or more"]),
        ("verbosity=loud", &["expect a whole number, 0 or more"]),
        ("token_limit=0", &["expect a whole number from 1 to 65535"]),
        ("token_limit=1.5", &["expect a whole number from 1 to 65535"]),
        ("disable_engine=yes", &["expect true or false"]),
        ("log_format=xml", &["expect \"text\" or \"json\""]),
        ("units_directory=run/fleet/units", &["expect the absolute path of a directory"]),
        ("state_directory=/", &["expect the absolute path of a directory"]),
        ("state_directory=/run/fleet/units/state", &[":1: state_directory", "may not be in units_directory"]),
        ("etcd_key_prefix=", &["expect the beginning of keys in etcd, as in /fleet/"]),
        ("etcd_key_prefix=/my fleet/", &["expect the beginning of keys in etcd"]),
        ("\netcd_username=me", &["fleet.conf:2: etcd_username is given without etcd_password"]),
        ("etcd_keyfile=/key", &["fleet.conf:1: etcd_keyfile is given without etcd_certfile"]),
    ] {
        let error = format!("{:#}", load(text, &[]).unwrap_err());
        words.iter().for_each(|word| assert!(error.contains(word), "{text}: {error}"));
        assert_eq!(error.lines().count(), 1, "{error}");
    }
    let variable = load("", &[("FLEET_PUBLIC_IP", "10.0.0.1:22")]).unwrap_err().to_string();
    assert!(variable.starts_with("FLEET_PUBLIC_IP: option public_ip cannot be"), "{variable}");
    let binary = Config::read(Path::new("fleet.conf"), b"verbosity=0\nmetadata=\"a=\xff\"\n".into(), []).unwrap_err();
    assert!(binary.to_string().ends_with(":2: this is not UTF-8 text"), "{binary}");
    let missing = Config::load(Some(Path::new("/nonexistent/fleet.conf")), []).unwrap_err();
    assert!(missing.to_string().starts_with("cannot read /nonexistent/fleet.conf"), "{missing}");
}

#[test]
fn all_faults_are_told_and_what_can_be_used_is_known() {
    let text = "units_directory=/srv/units\npublic_ip=10.0.0.1:22\nagent_ttl=soon\n";
    let read = Read::of(Path::new("fleet.conf"), text.into(), []);
    assert_eq!(read.faults.len(), 2, "{:?}", read.faults);
    assert_eq!(read.config, Config { units_directory: "/srv/units".into(), ..Config::default() });
}

#[test]
fn logins_are_not_shown() {
    for (text, secret) in
        [("etcd_password=[\"hush\"]\netcd_username=me", "hush"), ("etcd_servers=http://me:hush@a:2379", "hush")]
    {
        let error = load(text, &[]).unwrap_err().to_string();
        assert!(!error.contains(secret), "{error}");
    }
}

#[test]
fn what_has_another_effect_than_it_seems_is_told() {
    for (text, word) in [
        ("metdata=a=b", "fleet.conf:1: unknown option metdata, did you mean metadata?"),
        ("etcd-servers=http://a:1", "unknown option etcd-servers, did you mean etcd_servers?"),
        ("verbosity=0\nverbosity=1", "fleet.conf:2: option verbosity is given again, and fleet.conf:1 does not count"),
        ("metadata=a=b,a=c", "fleet.conf:1: option metadata: a is given twice: \"c\" counts, and not \"b\""),
        ("metadata=a=b=c", "no unit can ask for a=b=c"),
        ("metadata=a=b # the disk", "a comment has to be on a line of its own"),
        ("etcd_servers=http://a:1,http://a:1/", "http://a:1 is named twice"),
        ("listen=[\"/run/a\",\"unix:///run/a\"]", "unix:///run/a is named twice"),
        ("agent_ttl=2500ms", "whole seconds: 2s counts"),
        ("public_ip=127.0.0.1", "others cannot reach this host by 127.0.0.1"),
        ("public_ip=fe80::1", "others cannot reach this host by fe80::1"),
        ("etcd_servers=https://a:1", "fleet.conf:1: https://a:1 cannot be reached: no certificate is trusted"),
        ("etcd_servers=http://a:1\netcd_cafile=/ca", "fleet.conf:1: http://a:1 is without TLS"),
    ] {
        let (_, warnings) = load(text, &[]).unwrap();
        assert!(warnings.len() == 1 && warnings[0].contains(word), "{text}: {warnings:?}");
    }
    assert_eq!(load("agent_ttl=2500ms", &[]).unwrap().0.agent_ttl, Duration::from_secs(2), "as etcd grants it");
    let (_, warnings) = load("", &[("FLEET_ETCD_SERVER", "http://a:1"), ("FLEETCTL_ENDPOINT", "x")]).unwrap();
    assert_eq!(warnings, ["FLEET_ETCD_SERVER: there is no such variable, did you mean FLEET_ETCD_SERVERS?"]);
}

#[test]
fn options_of_cloud_configs_have_the_values_that_fleetd_takes() {
    for (option, value) in [
        ("etcd_servers", "http://a:4001,http://b:4001"),
        ("metadata", "region=us-west"),
        ("public_ip", "203.0.113.29"),
        ("agent_ttl", "30s"),
        ("verbosity", "1"),
        ("etcd_certfile", "/a"),
    ] {
        assert_eq!(check(option, value), Ok(Vec::new()), "{option}");
    }
    assert_eq!(check("agent_ttl", "1s"), Err("expect at least 2s, etcd's shortest lease".into()));
    assert!(check("metadata", "us-west").unwrap_err().starts_with("expect \"key=value,key=value\""));
    assert_eq!(check("metadata", "a=b,a=c").unwrap().len(), 1);
}
