//! Hostile documents: the property that the fuzz target checks, under proptest.

#[path = "hostile/properties.rs"]
mod properties;

use proptest::{collection::vec, prelude::*, sample::select};

/// Words of the format, so that chance goes beyond the first line.
const WORDS: [&str; 58] = [
    "hostname: ",
    "ssh_authorized_keys: ",
    "users: ",
    "write_files: ",
    "manage_etc_hosts: localhost\n",
    "coreos: ",
    "fleet: ",
    "  fleet: ",
    "  etcd2: ",
    "  update: ",
    "  units:\n",
    "    - name: a.service\n",
    "    - name: b@1.service\n",
    "    - {name: c.network, content: x}\n",
    "      content: |\n",
    "      command: start\n",
    "      enable: true\n",
    "      mask: ",
    "      drop-ins: [{name: x.conf, content: y}]\n",
    "      replace: true\n",
    "        [Service]\n",
    "        ExecStart=/bin/true\n",
    "        [X-Fleet]\n",
    "        Global=true\n",
    "[{name: core, groups: [sudo], ssh-authorized-keys: [ssh-rsa A]}]\n",
    "[{path: /a, content: aGk=, encoding: b64}]\n",
    "[{path: /etc/fleet/fleet.conf, content: x}]\n",
    "[{path: /../a}]\n",
    "[{path: /etc/systemd/system/a.service, content: x}]\n",
    "{metadata: a=b}\n",
    "{name: a}\n",
    "{metadata: a!}\n",
    "core1\n",
    "true",
    "no",
    "\n",
    " ",
    "  ",
    "- ",
    ": ",
    "|",
    ">",
    "&a ",
    "*a",
    "!!str ",
    "'",
    "\"",
    "\\",
    "#",
    "{",
    "}",
    "[",
    "]",
    ", ",
    "$private_ipv4",
    "\t",
    "é",
    "\r\n",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn any_text_is_read_or_refused(text in "(.|\n){0,300}") {
        properties::cloud_config(&text);
    }

    #[test]
    fn any_words_of_the_format_are_read_or_refused(words in vec(select(&WORDS[..]), 0..40)) {
        properties::cloud_config(&words.concat());
    }
}
