//! `fleetctl import-v2` with a dump as a small cluster of CoreOS fleet leaves it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

#[path = "stand_in/cluster.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared with other tests, which use the rest")]
mod cluster;

use cluster::{HELLO, StandIn, files, fleetctl, transcript};

const DUMP: &str = include_str!("data/fleet-v2.json");
const LOST: &str = "2> error: unit lost.service is left out: \
                    its contents are missing: the dump has no /unit/86943ac9f3754cb90f8dd38bf6da7b0cad074592";

#[tokio::test]
async fn a_dump_is_shown_submitted_and_started() {
    let cluster = StandIn::default();
    let (fake, directory) = (cluster.serve(), files(&[("dump.json", DUMP), ("redis.service", HELLO)]));
    fleetctl(&fake, directory.path(), "submit redis").await;
    let differs = "warning: redis.service keeps the contents that the cluster has, which differ from the dump";
    transcript(
        &fake,
        directory.path(),
        &[(
            "import-v2 --dry-run --start dump.json",
            &format!(
                "1> Unit backup.timer would be submitted\n\
                 1> Unit node-exporter.service would be submitted and started\n\
                 1> {differs}\n\
                 1> Unit web@.service would be submitted\n\
                 1> Unit web@1.service would be submitted and started\n\
                 1> Unit web@2.service would be submitted and started\n\
                 {LOST}\n[1]"
            ),
        )],
    )
    .await;
    assert_eq!(cluster.units.lock().unwrap().len(), 1, "nothing was sent");
    transcript(
        &fake,
        directory.path(),
        &[
            (
                "import-v2 dump.json",
                &format!(
                    "1> Unit backup.timer inactive\n\
                     1> Unit node-exporter.service inactive\n\
                     1> Unit web@.service inactive\n\
                     1> Unit web@1.service inactive\n\
                     1> Unit web@2.service inactive\n\
                     2> {differs}\n\
                     {LOST}\n[1]"
                ),
            ),
            ("destroy redis.service web@1.service", "1> Destroyed redis.service\n1> Destroyed web@1.service\n[0]"),
            (
                "import-v2 --start dump.json",
                &format!(
                    "1> Found same Unit(backup.timer) in Registry, nothing to do\n\
                     1> Triggered unit node-exporter.service start\n\
                     1> Unit redis.service inactive\n\
                     1> Triggered unit redis.service load\n\
                     1> Found same Unit(web@.service) in Registry, nothing to do\n\
                     1> Unit web@1.service inactive\n\
                     1> Triggered unit web@1.service start\n\
                     1> Triggered unit web@2.service start\n\
                     {LOST}\n[1]"
                ),
            ),
            (
                "list-unit-files --no-legend --fields=unit,dstate",
                "1> backup.timer\t\tinactive\n\
                 1> node-exporter.service\tlaunched\n\
                 1> redis.service\t\tloaded\n\
                 1> web@.service\t\tinactive\n\
                 1> web@1.service\t\tlaunched\n\
                 1> web@2.service\t\tlaunched\n[0]",
            ),
        ],
    )
    .await;
    let cat = fleetctl(&fake, directory.path(), "cat web@1").await.out;
    assert!(cat.contains("ExecStart=/usr/bin/docker run --rm --name web-%i \\\n  -p 80:80 nginx\n"), "{cat}");
}

#[tokio::test]
async fn what_is_no_dump_sends_nothing() {
    let (fake, directory) = (StandIn::default().serve(), files(&[("keys", "/_coreos.com/fleet/job\n")]));
    for (line, message) in [
        ("import-v2 nosuch", "error: cannot read nosuch: no such file or directory\n"),
        ("import-v2 keys", "error: cannot import keys: it is no answer of etcd's v2 API: "),
        ("import-v2 -", "error: cannot import -: it is no answer of etcd's v2 API: "),
    ] {
        let ran = fleetctl(&fake, directory.path(), line).await;
        assert!(ran.err.starts_with(message) && ran.code == 1, "{line}: {}", ran.err);
    }
    assert!(fake.asked().is_empty());
}
