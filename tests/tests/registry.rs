//! The registry against a real etcd: what the mirror, the guards and the lease promise.

use std::time::Duration;

use fleet_core::{
    model::{Desired, Key, Keys, Record, Snapshot, UnitRecord},
    unit::{UnitFile, UnitHash, UnitName},
};
use fleet_tests::EtcdProcess;
use fleetd::registry::{
    Etcd, Guard, KeepAlive, LeaseId, Store, StoreError, Transaction, Watch, WatchEvent, Write, election,
    etcd::Endpoints, files::Files, lease, mirror, view::View,
};
use tokio::{sync::watch, task::AbortHandle, time::timeout};

const PATIENCE: Duration = Duration::from_secs(30);

async fn connect(etcd: &EtcdProcess) -> Etcd {
    let endpoints =
        Endpoints { urls: vec![etcd.url().into()], request_timeout: Duration::from_secs(2), ..Endpoints::default() };
    Etcd::new(endpoints)
}

fn keys() -> Keys {
    Keys::new("fleet")
}

fn name(n: usize) -> UnitName {
    UnitName::new(&format!("u{n}.service")).unwrap()
}

fn record(generation: u64) -> UnitRecord {
    UnitRecord::new(UnitHash::of(""), Desired::Launched, generation)
}

fn put(n: usize, generation: u64) -> Write {
    Write::put(keys().format(&Key::Unit(name(n))), record(generation).encode())
}

async fn write(store: &Etcd, writes: Vec<Write>) -> i64 {
    let transaction = Transaction { guards: Vec::new(), writes };
    store.commit(transaction).await.unwrap().unwrap()
}

/// A mirror of the whole cluster. It ends with the handle.
fn follow(store: &Etcd) -> (watch::Receiver<Snapshot>, AbortHandle) {
    let (sender, receiver) = watch::channel(Snapshot::default());
    let store = store.clone();
    let task = async move { mirror::follow(&store, &keys(), &[keys().followed()], &sender).await };
    (receiver, tokio::spawn(task).abort_handle())
}

async fn until(cluster: &mut watch::Receiver<Snapshot>, what: impl FnMut(&Snapshot) -> bool) -> Snapshot {
    timeout(PATIENCE, cluster.wait_for(what)).await.expect("in time").expect("the mirror runs").clone()
}

#[tokio::test]
async fn mirror_lists_in_pages_follows_changes_and_decides_nothing_before_it_is_whole() {
    let etcd = EtcdProcess::start();
    let store = connect(&etcd).await;
    for start in (0..2500).step_by(100) {
        write(&store, (start..start + 100).map(|n| put(n, 0)).collect()).await;
    }
    let (mut cluster, _task) = follow(&store);
    assert!(!cluster.borrow().complete);
    let whole = until(&mut cluster, |cluster| cluster.complete).await;
    assert_eq!(whole.units.len(), 2500, "three pages");
    let revision = write(&store, vec![put(7, 1), Write::Delete { key: keys().format(&Key::Unit(name(8))) }]).await;
    let later = until(&mut cluster, |cluster| cluster.revision >= revision).await;
    assert_eq!(later.units[&name(7)].record.generation, 1);
    assert_eq!(whole.units.diff(&later.units).count(), 2, "the difference is what changed");
    let foreign = Write::put("/fleet/unit/not a name".into(), b"x".to_vec());
    let unreadable = Write::put(keys().format(&Key::Unit(name(7))), b"{\"v\":9}".to_vec());
    let revision = write(&store, vec![foreign, unreadable]).await;
    let last = until(&mut cluster, |cluster| cluster.revision >= revision).await;
    assert_eq!(last.units.len(), 2499, "a value that cannot be read takes nothing away");
    assert_eq!(last.units[&name(7)].record.generation, 1, "what was known stays");
    assert_eq!(last.unreadable.iter().collect::<Vec<_>>(), [&Key::Unit(name(7))]);
    let revision = write(&store, vec![put(7, 2)]).await;
    let mended = until(&mut cluster, |cluster| cluster.revision >= revision).await;
    assert!(mended.unreadable.is_empty() && mended.units[&name(7)].record.generation == 2);
}

#[tokio::test]
async fn mirror_survives_a_restart_and_a_compaction_and_ends_up_equal_to_the_store() {
    let mut etcd = EtcdProcess::start();
    let store = connect(&etcd).await;
    write(&store, (0..50).map(|n| put(n, 0)).collect()).await;
    let (mut cluster, _task) = follow(&store);
    until(&mut cluster, |cluster| cluster.complete).await;
    etcd.restart();
    let revision = write_until_it_works(&store, put(3, 5)).await;
    let after = until(&mut cluster, |cluster| cluster.revision >= revision && cluster.stale_since.is_none()).await;
    assert_eq!(after.units[&name(3)].record.generation, 5);
    // What happens while the watch is broken is compacted away before it comes back.
    let (mut late, task) = follow(&store);
    let before = until(&mut late, |cluster| cluster.complete).await;
    task.abort();
    drop(late);
    write(&store, (0..40).map(|n| Write::Delete { key: keys().format(&Key::Unit(name(n))) }).collect()).await;
    let revision = write(&store, vec![put(45, 9)]).await;
    etcd.etcdctl(&["compact", &revision.to_string()]).unwrap();
    let watch = store.watch(&keys().followed(), before.revision + 1).await;
    let event = match watch {
        Ok(mut watch) => timeout(PATIENCE, fleetd::registry::Watch::next(&mut watch)).await.unwrap(),
        Err(error) => Err(error),
    };
    assert!(matches!(event, Ok(fleetd::registry::WatchEvent::Compacted)), "{event:?}");
    let now = until(&mut cluster, |cluster| cluster.revision >= revision).await;
    assert_eq!(now.units.len(), 10);
}

async fn write_until_it_works(store: &Etcd, write: Write) -> i64 {
    let attempt = || store.commit(Transaction { guards: Vec::new(), writes: vec![write.clone()] });
    timeout(PATIENCE, async {
        loop {
            if let Ok(Some(revision)) = attempt().await {
                return revision;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await
    .expect("the store comes back")
}

#[tokio::test]
async fn guards_refuse_what_rests_on_an_old_revision_or_on_a_lost_leadership() {
    let etcd = EtcdProcess::start();
    let store = connect(&etcd).await;
    let key = keys().format(&Key::Unit(name(1)));
    let guarded = |guard| Transaction { guards: vec![guard], writes: vec![put(1, 0)] };
    let created = store.commit(guarded(Guard::Unchanged(key.clone(), 0))).await.unwrap();
    assert!(created.is_some(), "0 stands for absent");
    assert_eq!(store.commit(guarded(Guard::Unchanged(key.clone(), 0))).await.unwrap(), None);
    let newer = store.commit(guarded(Guard::Unchanged(key.clone(), created.unwrap()))).await.unwrap();
    assert_eq!(store.commit(guarded(Guard::Unchanged(key, created.unwrap()))).await.unwrap(), None);
    assert!(newer.is_some());

    let lease = store.grant(PATIENCE).await.unwrap();
    let first = election::campaign(&store, &keys().election(), "one", lease).await.unwrap();
    let rival = store.grant(PATIENCE).await.unwrap();
    let election = keys().election();
    let waiting = election::campaign(&store, &election, "two", rival);
    tokio::pin!(waiting);
    assert!(timeout(Duration::from_millis(300), &mut waiting).await.is_err(), "one leads at a time");
    assert!(store.commit(guarded(first.guard())).await.unwrap().is_some());
    store.revoke(lease).await.unwrap();
    let second = timeout(PATIENCE, waiting).await.unwrap().unwrap();
    assert_eq!(store.commit(guarded(first.guard())).await.unwrap(), None, "the deposed leader cannot write");
    assert!(store.commit(guarded(second.guard())).await.unwrap().is_some());
}

#[tokio::test]
async fn lease_lives_while_it_is_kept_and_its_end_is_noticed() {
    let etcd = EtcdProcess::start();
    let store = connect(&etcd).await;
    let ttl = Duration::from_secs(2);
    let lease = store.grant(ttl).await.unwrap();
    let (acknowledged, seen) = watch::channel(tokio::time::Instant::now());
    let start = *seen.borrow();
    let kept = lease::keep(&store, lease, ttl, tokio::time::Instant::now, &acknowledged);
    assert!(timeout(3 * ttl, kept).await.is_err(), "it is alive after three times its TTL");
    assert!(*seen.borrow() > start + ttl);
    store.revoke(lease).await.unwrap();
    timeout(PATIENCE, lease::keep(&store, lease, ttl, tokio::time::Instant::now, &acknowledged))
        .await
        .expect("a lost lease ends the keeping");
    assert!(matches!(store.keep_alive(LeaseId(4711), 0).await.map(drop), Err(StoreError::LeaseGone)));
    let mut fresh = store.keep_alive(store.grant(ttl).await.unwrap(), 0).await.unwrap();
    fresh.beat().await.unwrap();
}

#[tokio::test]
async fn view_runs_while_it_is_needed_and_answers_with_what_it_knew_when_the_store_is_gone() {
    let etcd = EtcdProcess::start();
    let store = connect(&etcd).await;
    write(&store, vec![put(1, 0)]).await;
    let view = View::new(store.clone(), keys());
    let reading = view.read().await.unwrap();
    assert_eq!((reading.cluster.units.len(), reading.age), (1, None));
    let revision = write(&store, vec![put(2, 0)]).await;
    view.seen(revision).await;
    assert_eq!(view.read().await.unwrap().cluster.units.len(), 2, "who writes reads what was written");
    drop(etcd);
    let aged = async {
        loop {
            let reading = view.read().await.expect("what was known is still known");
            if reading.age.is_some() {
                return reading;
            }
        }
    };
    let reading = timeout(PATIENCE, aged).await.unwrap();
    assert_eq!(reading.cluster.units.len(), 2);
    let stranger = View::new(store, keys());
    assert!(stranger.read().await.is_err(), "nothing was ever known here");
}

#[tokio::test]
async fn files_are_fetched_once_and_checked_against_their_hash() {
    let etcd = EtcdProcess::start();
    let store = connect(&etcd).await;
    let good = UnitFile::parse("[Unit]\nDescription=a\n").unwrap();
    let missing = UnitHash::of("missing");
    let forged = UnitHash::of("forged");
    let put = |hash, text: &str| Write::put(keys().format(&Key::File(hash)), text.as_bytes().to_vec());
    write(&store, vec![put(good.hash(), &good.canonical()), put(forged, "[Unit]\nDescription=other\n")]).await;
    let files = Files::new(store.clone(), keys());
    let found = files.get([good.hash(), missing, forged]).await.unwrap();
    assert_eq!(found.keys().collect::<Vec<_>>(), [&good.hash()]);
    write(&store, vec![Write::Delete { key: keys().format(&Key::File(good.hash())) }]).await;
    assert_eq!(files.one(good.hash()).await.unwrap().map(|file| file.hash()), Some(good.hash()), "from the cache");
    files.retain(|_| false);
    assert!(files.one(good.hash()).await.unwrap().is_none());
}

#[tokio::test]
async fn store_that_was_restored_and_has_come_further_than_before_is_listed_again() {
    let mut etcd = EtcdProcess::start();
    let store = connect(&etcd).await;
    let backup = tempfile::tempdir().unwrap();
    let backup = backup.path().join("backup.db");
    write(&store, vec![put(1, 0)]).await;
    etcd.etcdctl(&["snapshot", "save", &backup.to_string_lossy()]).unwrap();
    let (mut cluster, _mirror) = follow(&store);
    until(&mut cluster, |cluster| cluster.units.contains_key(&name(1))).await;
    // What comes after the list is told by the watch, which knows then whose history it follows.
    let seen = write(&store, vec![put(2, 0)]).await;
    until(&mut cluster, |cluster| cluster.units.contains_key(&name(2))).await;
    let before = store.watch(&keys().followed(), seen).await.unwrap().origin();
    etcd.restore(&backup);
    let (one, two) = (write_until_it_works(&store, put(3, 0)).await, write(&store, vec![put(4, 0)]).await);
    assert!(one <= seen && seen < two, "revisions say nothing");
    let after = store.watch(&keys().followed(), seen).await.unwrap().origin();
    assert!(!after.continues(before), "{before:?} {after:?}");
    let now = until(&mut cluster, |cluster| cluster.units.contains_key(&name(4))).await;
    let units: Vec<_> = now.units.keys().cloned().collect();
    assert_eq!(units, [name(1), name(3), name(4)]);
}

#[tokio::test]
async fn store_that_was_restored_from_a_backup_is_listed_again() {
    let etcd = EtcdProcess::start();
    let store = connect(&etcd).await;
    let revision = write(&store, vec![put(1, 0)]).await;
    // What a mirror had seen before etcd went back to an earlier state.
    let mut watch = store.watch(&keys().followed(), revision + 1000).await.unwrap();
    let event = timeout(PATIENCE, watch.next()).await.expect("in time").unwrap();
    assert!(matches!(event, WatchEvent::Compacted), "{event:?}");
}
