//! What fleet rests on in a [`Store`].

use std::{fmt::Debug, future::Future, time::Duration};

use fleetd::registry::{
    Guard, KeepAlive, Leadership, LeaseId, Page, Range, Revision, Store, StoreError, Transaction, Watch, WatchEvent,
    Write, election,
};
use tokio::time::{Instant, sleep, timeout};

/// What can be done to a store from outside.
pub trait Operator {
    /// Kills it.
    fn stop(&mut self);
    /// Starts it again with its data.
    fn start(&mut self);
    /// Freezes it.
    fn freeze(&mut self);
    /// Ends that.
    fn thaw(&mut self);
    /// Forgets what was before a revision.
    fn compact(&mut self, revision: Revision);
}

/// Longer than anything takes that is to happen.
const PATIENCE: Duration = Duration::from_secs(20);
/// Longer than anything takes that happens at once.
const SOON: Duration = Duration::from_millis(700);

struct Script<'a, S, O> {
    store: &'a S,
    operator: &'a mut O,
    seen: Vec<String>,
}

/// Runs the script on an empty store and returns what it saw.
pub async fn observe<S: Store, O: Operator>(store: &S, operator: &mut O) -> Vec<String> {
    let mut script = Script { store, operator, seen: Vec::new() };
    script.transactions().await;
    script.lists().await;
    script.watches().await;
    script.compaction().await;
    script.leases().await;
    script.election().await;
    script.restart().await;
    script.freeze().await;
    script.seen
}

fn put(key: &str, value: &str) -> Write {
    Write::put(key.into(), value.into())
}

fn leased(key: &str, lease: LeaseId) -> Write {
    Write::Put { key: key.into(), value: b"leased".to_vec(), lease: Some(lease) }
}

fn delete(key: &str) -> Write {
    Write::Delete { key: key.into() }
}

fn range(from: &str, to: &str) -> Range {
    (from.into(), to.into())
}

/// A result in words that do not differ from one implementation to the other.
fn word<T: Debug>(result: &Result<T, StoreError>) -> String {
    match result {
        Ok(value) => format!("{value:?}"),
        Err(StoreError::Unavailable(_)) => "unavailable".into(),
        Err(StoreError::Compacted) => "compacted".into(),
        Err(StoreError::LeaseGone) => "lease gone".into(),
        Err(_) => "refused".into(),
    }
}

fn page(page: &Page) -> String {
    let entry = |stored: &fleetd::registry::Stored| {
        let value = String::from_utf8_lossy(&stored.value);
        format!("{}={value}@{}/{}", stored.key, stored.create_revision, stored.mod_revision)
    };
    let entries: Vec<String> = page.entries.iter().map(entry).collect();
    format!("{} at {}{}", entries.join(" "), page.revision, if page.more { " and more" } else { "" })
}

impl<S: Store, O: Operator> Script<'_, S, O> {
    fn saw(&mut self, what: &str, result: impl Into<String>) {
        self.seen.push(format!("{what}: {}", result.into()));
    }

    async fn write(&mut self, guards: Vec<Guard>, writes: Vec<Write>) -> Result<Option<Revision>, StoreError> {
        self.store.commit(Transaction { guards, writes }).await
    }

    async fn commit(&mut self, what: &str, guards: Vec<Guard>, writes: Vec<Write>) {
        let result = self.write(guards, writes).await;
        self.saw(what, word(&result));
    }

    async fn all(&mut self, what: &str) {
        let result = self.store.list(&range("k/", "k0"), None, 0).await;
        self.saw(what, word(&result.map(|listed| page(&listed))));
    }

    async fn transactions(&mut self) {
        self.all("an empty store").await;
        self.commit("first write", vec![], vec![put("k/a", "1"), put("k/b", "1")]).await;
        self.commit("a write that changes nothing", vec![], vec![delete("k/none")]).await;
        self.commit("an empty transaction", vec![], vec![]).await;
        self.commit("the same value again", vec![], vec![put("k/a", "1")]).await;
        self.all("after that").await;
        self.commit("unchanged, and it is", vec![Guard::Unchanged("k/a".into(), 3)], vec![put("k/a", "2")]).await;
        self.commit("unchanged, and it is not", vec![Guard::Unchanged("k/a".into(), 3)], vec![put("k/a", "3")]).await;
        self.commit("absent, and it is", vec![Guard::Unchanged("k/c".into(), 0)], vec![put("k/c", "1")]).await;
        self.commit("absent, and it is not", vec![Guard::Unchanged("k/c".into(), 0)], vec![put("k/c", "2")]).await;
        self.commit("created then", vec![Guard::CreatedAt("k/a".into(), 2)], vec![put("k/d", "1")]).await;
        self.commit("not created then", vec![Guard::CreatedAt("k/a".into(), 4)], vec![put("k/d", "2")]).await;
        self.commit("gone and created at 0", vec![Guard::CreatedAt("k/x".into(), 0)], vec![delete("k/d")]).await;
        self.commit("not after it was written", vec![Guard::NotAfter("k/a".into(), 5)], vec![put("k/d", "3")]).await;
        self.commit("not before it was written", vec![Guard::NotAfter("k/a".into(), 1)], vec![put("k/d", "4")]).await;
        let range = |from: &str, to: &str| (from.to_owned(), to.to_owned());
        self.commit("none after", vec![Guard::NoneAfter(range("k/a", "k/e"), 100)], vec![put("k/d", "5")]).await;
        self.commit("one of them after", vec![Guard::NoneAfter(range("k/a", "k/e"), 4)], vec![put("k/d", "6")]).await;
        self.commit("none there", vec![Guard::NoneAfter(range("k/x", "k/y"), 0)], vec![put("k/d", "7")]).await;
        self.commit("absent and so not after", vec![Guard::NotAfter("k/x".into(), 0)], vec![delete("k/d")]).await;
        self.commit("a key twice", vec![], vec![put("k/e", "1"), put("k/e", "2")]).await;
        self.commit("written and deleted", vec![], vec![put("k/e", "1"), delete("k/e")]).await;
        self.commit("deleted twice", vec![], vec![delete("k/c"), delete("k/c"), put("k/e", "1")]).await;
        let many = |count: usize| (0..count).map(|n| put(&format!("many/{n:03}"), "")).collect::<Vec<_>>();
        self.commit("128 writes", vec![], many(128)).await;
        self.commit("129 writes", vec![], many(129)).await;
        let guards = (0..129).map(|n| Guard::Unchanged(format!("k/no/{n}"), 0)).collect();
        self.commit("129 guards", guards, vec![put("k/f", "1")]).await;
        let unknown = leased("k/g", LeaseId(4711));
        self.commit("unknown lease", vec![], vec![put("k/f", "1"), unknown.clone()]).await;
        let guard = Guard::Unchanged("k/a".into(), 1);
        self.commit("unknown lease behind a guard that fails", vec![guard], vec![unknown]).await;
        self.commit("many go", vec![], (0..127).map(|n| delete(&format!("many/{n:03}"))).collect()).await;
        let from_a = || Write::DeleteRange { range: range("k/r/a", "k/r/c") };
        let keys = ["k/r/", "k/r/a", "k/r/ab", "k/r/c"];
        self.commit("a range", vec![], keys.iter().map(|key| put(key, "1")).collect()).await;
        self.commit("a range with a key of it", vec![], vec![put("k/r/b", "1"), from_a()]).await;
        self.commit("a range with its end", vec![], vec![put("k/r/c", "2"), from_a()]).await;
        self.all("after a range went").await;
        self.commit("a range of nothing", vec![], vec![from_a()]).await;
        self.commit("the rest of it", vec![], vec![Write::DeleteRange { range: range("k/r/", "k/r0") }]).await;
        self.all("at the end").await;
    }

    async fn lists(&mut self) {
        let store = self.store;
        let list = |from: &'static str, to: &'static str, at, limit| async move {
            let result = store.list(&range(from, to), at, limit).await;
            word(&result.map(|listed| page(&listed)))
        };
        let mut seen = Vec::new();
        seen.push(list("k/", "k0", None, 2).await);
        seen.push(list("k/b\0", "k0", None, 2).await);
        seen.push(list("k/", "k0", Some(2), 0).await);
        seen.push(list("k/", "k0", Some(5), 2).await);
        seen.push(list("k/z", "k0", None, 2).await);
        seen.push(list("k/", "k0", Some(10_000), 0).await);
        let keys: Vec<String> = ["k/e", "k/none", "k/a"].map(String::from).to_vec();
        seen.push(word(&self.store.get(&keys).await.map(|got| page(&got))));
        for (number, list) in seen.into_iter().enumerate() {
            self.saw(&format!("list {number}"), list);
        }
    }

    /// Reads a watch until it has told of `until`, breaks, or is silent.
    async fn read(&mut self, what: &str, watch: &mut S::Watch, until: Revision) {
        let mut told = Vec::new();
        let ended = loop {
            match timeout(SOON, watch.next()).await {
                Err(_) => break "silent",
                Ok(Ok(WatchEvent::Compacted)) => break "compacted",
                Ok(Err(StoreError::Unavailable(_))) => break "unavailable",
                Ok(Err(_)) => break "another error",
                Ok(Ok(WatchEvent::Changed { revision, changes })) => {
                    for change in changes {
                        told.push(match change {
                            Ok(stored) => format!(
                                "{}={}@{}/{}",
                                stored.key,
                                String::from_utf8_lossy(&stored.value),
                                stored.create_revision,
                                stored.mod_revision
                            ),
                            Err(key) => format!("{key} gone"),
                        });
                    }
                    if revision >= until {
                        break "there";
                    }
                }
            }
        };
        self.saw(what, format!("{}, {ended}", told.join(" ")));
    }

    async fn open(&mut self, from: Revision) -> S::Watch {
        self.store.watch(&range("k/", "k0"), from).await.expect("a watch opens on a store that is there")
    }

    async fn watches(&mut self) {
        let now = self.revision().await;
        let mut history = self.open(1).await;
        self.read("history from the first revision", &mut history, 7).await;
        let mut live = self.open(now + 1).await;
        let mut other = self.store.watch(&range("other/", "other0"), now + 1).await.expect("a watch opens");
        self.read("nothing new", &mut live, now + 1).await;
        self.commit("several changes", vec![], vec![put("k/a", "w"), put("other/a", "w"), delete("k/b")]).await;
        self.read("they come in their order", &mut live, now + 1).await;
        self.read("only what is in the range", &mut other, now + 1).await;
        let mut ahead = self.open(now + 3).await;
        self.commit("too early for one", vec![], vec![put("k/a", "x")]).await;
        self.commit("not any more", vec![], vec![put("k/a", "y")]).await;
        self.read("a watch of what is yet to come", &mut ahead, now + 3).await;
        self.read("both", &mut live, now + 3).await;
        let deletions = self.store.watch_deletions(&range("d/", "d0"), now + 1).await;
        let mut deletions = deletions.expect("a watch opens on a store that is there");
        self.commit("a key comes", vec![], vec![put("d/a", "1"), put("d/b", "1")]).await;
        self.commit("and goes", vec![], vec![delete("d/a"), put("d/b", "2")]).await;
        self.read("only what is deleted", &mut deletions, now + 5).await;
    }

    async fn revision(&mut self) -> Revision {
        self.store.list(&range("none", "none0"), None, 1).await.expect("the store is there").revision
    }

    async fn compaction(&mut self) {
        self.commit("before", vec![], vec![put("k/t", "1"), put("k/u", "1")]).await;
        self.commit("gone in the last revision that is forgotten", vec![], vec![delete("k/t"), put("k/u", "2")]).await;
        let then = self.revision().await;
        self.commit("after", vec![], vec![put("k/u", "3")]).await;
        let mut live = self.open(then + 2).await;
        self.operator.compact(then);
        // The store does its work in the background.
        sleep(SOON).await;
        for at in [then - 1, then, then + 1] {
            let result = self.store.list(&range("k/t", "k0"), Some(at), 0).await;
            self.saw(&format!("list at {}", at - then), word(&result.map(|listed| page(&listed))));
        }
        let mut early = self.open(then - 1).await;
        self.read("watch from before", &mut early, then + 1).await;
        let mut edge = self.open(then).await;
        self.read("watch from the revision itself", &mut edge, then + 1).await;
        let mut late = self.open(then + 1).await;
        self.read("watch from after", &mut late, then + 1).await;
        self.commit("and on", vec![], vec![put("k/u", "4")]).await;
        self.read("an open watch goes on", &mut live, then + 2).await;
    }

    async fn grant(&mut self, seconds: u64) -> LeaseId {
        self.store.grant(Duration::from_secs(seconds)).await.expect("the store is there")
    }

    /// How long until a key is gone, in whole seconds rounded to the nearest, at most a second late.
    async fn lives(&mut self, what: &str, key: &str, expected: f64) {
        let start = Instant::now();
        let key = key.to_owned();
        let gone = timeout(PATIENCE, async {
            while !self.store.get(std::slice::from_ref(&key)).await.is_ok_and(|page| page.entries.is_empty()) {
                sleep(Duration::from_millis(20)).await;
            }
        });
        let gone = gone.await.is_ok();
        let late = start.elapsed().as_secs_f64() - expected;
        let result =
            if gone && (-0.3..1.5).contains(&late) { "as long as it should".into() } else { format!("{late:.2} s") };
        self.saw(what, result);
    }

    async fn leases(&mut self) {
        let short = self.grant(1).await;
        self.commit("two keys", vec![], vec![leased("k/l1", short), leased("k/l2", short)]).await;
        let now = self.revision().await;
        let mut watch = self.open(now + 1).await;
        self.lives("a lease of one second lives two", "k/l1", 2.0).await;
        self.read("all of its keys go in one revision", &mut watch, now + 1).await;
        let kept = self.grant(2).await;
        self.commit("one key", vec![], vec![leased("k/l1", kept), leased("k/l2", kept), leased("k/l3", kept)]).await;
        let mut stream = self.store.keep_alive(kept, self.store.nearest()).await.expect("the lease is there");
        for _ in 0..4 {
            sleep(SOON).await;
            let beat = stream.beat().await;
            self.saw("kept alive", word(&beat));
        }
        let other = self.grant(30).await;
        self.commit("to no lease and another", vec![], vec![put("k/l1", "free"), leased("k/l2", other)]).await;
        let revoked = self.store.revoke(kept).await;
        self.saw("revoked", word(&revoked));
        self.all("only what is still its own goes").await;
        let beat = stream.beat().await;
        self.saw("a stream of a lease that is gone", word(&beat));
        let opened = self.store.keep_alive(kept, self.store.nearest()).await.map(drop);
        self.saw("to open one", word(&opened));
        let again = self.store.revoke(kept).await;
        self.saw("to revoke it again", word(&again));
        let revoked = self.store.revoke(other).await;
        self.saw("the other", word(&revoked));
        self.all("all are gone").await;
    }

    async fn election(&mut self) {
        let store = self.store.clone();
        let election = "e/1";
        let stands = |name: &'static str, lease| {
            let store = store.clone();
            async move { election::campaign(&store, election, name, lease).await }
        };
        let base = self.revision().await;
        let (one, two, three) = (self.grant(30).await, self.grant(30).await, self.grant(30).await);
        let first = timeout(PATIENCE, stands("one", one)).await.expect("nobody else stands").expect("it is there");
        let names = |key: &str, lease: LeaseId| key == format!("{election}/{:x}", lease.0);
        self.saw("elected", format!("{} at +{}", names(&first.key, one), first.revision - base));
        let again = timeout(PATIENCE, stands("one", one)).await.expect("it leads already");
        self.saw("again", word(&again.map(|again| again == first)));
        let mut second = Box::pin(stands("two", two));
        self.waits("second", &mut second).await;
        let mut third = Box::pin(stands("three", three));
        self.waits("third", &mut third).await;
        self.commit("the leader writes", vec![first.guard()], vec![put("k/led", "1")]).await;
        self.candidates("three stand", election).await;
        drop(third);
        sleep(SOON).await;
        self.candidates("one that does not wait any more stands for as long as its lease", election).await;
        let short = self.grant(2).await;
        let mut fourth = Box::pin(stands("four", short));
        self.waits("fourth", &mut fourth).await;
        sleep(Duration::from_secs(3)).await;
        self.candidates("its lease ended while it waited", election).await;
        self.store.revoke(one).await.expect("the store is there");
        let second = timeout(PATIENCE, second).await.expect("the first is gone").expect("it is there");
        self.saw("the second leads", format!("{}", second.revision - base));
        self.commit("the first writes", vec![first.guard()], vec![put("k/led", "2")]).await;
        self.commit("the second writes", vec![second.guard()], vec![put("k/led", "3")]).await;
        self.store.revoke(two).await.expect("the store is there");
        let fourth = timeout(PATIENCE, fourth).await;
        let holds = match &fourth {
            Ok(Ok(fourth)) => {
                let written = self.write(vec![fourth.guard()], vec![put("k/led", "4")]).await;
                format!("told that it leads, and writes {}", word(&written))
            }
            Ok(error) => word(error),
            Err(_) => "waits".into(),
        };
        self.saw("one whose lease is gone", holds);
        let dead = timeout(PATIENCE, stands("one", one)).await.expect("an answer");
        self.saw("to stand with a lease that is gone", word(&dead.map(drop)));
        self.candidates("nobody stands", election).await;
        self.store.revoke(three).await.expect("the store is there");
    }

    async fn waits<F>(&mut self, what: &str, standing: &mut std::pin::Pin<Box<F>>)
    where
        F: Future<Output = Result<Leadership, StoreError>>,
    {
        let waits = timeout(SOON, standing.as_mut()).await.is_err();
        self.saw(what, format!("waits: {waits}"));
    }

    async fn candidates(&mut self, what: &str, election: &str) {
        let listed = self.store.list(&range(&format!("{election}/"), &format!("{election}0")), None, 0).await;
        let mut entries = listed.expect("the store is there").entries;
        entries.sort_by_key(|stored| stored.create_revision);
        let names: Vec<String> =
            entries.iter().map(|stored| String::from_utf8_lossy(&stored.value).into_owned()).collect();
        self.saw(what, names.join(" "));
    }

    /// Waits until the store answers.
    async fn back(&mut self) {
        let back = timeout(PATIENCE, async {
            while self.store.list(&range("none", "none0"), None, 1).await.is_err() {
                sleep(Duration::from_millis(100)).await;
            }
        });
        back.await.expect("the store comes back");
    }

    async fn restart(&mut self) {
        let lease = self.grant(4).await;
        self.commit("a key with a lease", vec![], vec![leased("k/r", lease)]).await;
        let now = self.revision().await;
        let mut watch = self.open(now + 1).await;
        let mut stream = self.store.keep_alive(lease, self.store.nearest()).await.expect("the lease is there");
        let standing = {
            let (store, rival) = (self.store.clone(), self.grant(30).await);
            let leader = self.grant(30).await;
            election::campaign(&store, "e/2", "leader", leader).await.expect("nobody else stands");
            async move { election::campaign(&store, "e/2", "rival", rival).await }
        };
        let mut standing = Box::pin(standing);
        self.waits("a candidate", &mut standing).await;
        self.operator.stop();
        self.read("a watch ends with the store", &mut watch, now + 1).await;
        let standing = timeout(SOON, standing).await.map(|stood| word(&stood.map(drop)));
        self.saw("a candidacy does not", standing.unwrap_or_else(|_| "waits".into()));
        let beat = timeout(PATIENCE, stream.beat()).await.expect("an answer");
        self.saw("a stream of keepalives does", word(&beat));
        self.commit("to write meanwhile", vec![], vec![put("k/r2", "1")]).await;
        sleep(Duration::from_secs(5)).await;
        self.operator.start();
        self.back().await;
        self.lives("the lease has its whole time again", "k/r", 4.0).await;
        let beat = stream.beat().await;
        self.saw("a stream stays dead", word(&beat));
        let event = timeout(SOON, watch.next()).await.map(|event| event.is_err());
        self.saw("and a watch", format!("{event:?}"));
        self.all("nothing is lost").await;
    }

    async fn freeze(&mut self) {
        let lease = self.grant(3).await;
        self.commit("a key with a lease", vec![], vec![leased("k/f", lease)]).await;
        let now = self.revision().await;
        let mut watch = self.open(now + 1).await;
        let mut stream = self.store.keep_alive(lease, self.store.nearest()).await.expect("the lease is there");
        self.operator.freeze();
        let start = Instant::now();
        let beat = async { timeout(PATIENCE, stream.beat()).await.map(|beat| (word(&beat), start.elapsed())) };
        let event = async { timeout(PATIENCE, watch.next()).await.map(|event| (event.is_err(), start.elapsed())) };
        let written = async {
            let list = self.store.list(&range("k/", "k0"), None, 0).await;
            (word(&list.map(drop)), start.elapsed())
        };
        let (beat, event, listed) = tokio::join!(beat, event, written);
        let (beat, event) = (beat.expect("an answer"), event.expect("an answer"));
        let in_time = |elapsed: Duration| elapsed > Duration::from_secs(1) && elapsed < Duration::from_secs(11);
        self.saw("a frozen store: keepalives", format!("{} {}", beat.0, in_time(beat.1)));
        self.saw("its watches break", format!("{} {}", event.0, in_time(event.1)));
        self.saw("its calls are given up", format!("{} {}", listed.0, in_time(listed.1)));
        self.operator.thaw();
        self.back().await;
        let opened = self.store.keep_alive(lease, self.store.nearest()).await.map(drop);
        self.saw("its leases are gone", word(&opened));
        sleep(SOON).await;
        self.all("and their keys").await;
    }
}
