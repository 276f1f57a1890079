//! The keys of this host, for its agent.
//!
//! In: the registration, and from the store what is scheduled to this host, the edits to its metadata and what the cluster
//! uses. Out: the snapshot that the agent goes by.
//!
//! As long as the cluster does not use placements of global units, the agent decides about these by itself, and `global/`
//! is followed, too. It goes on so in a cluster that uses them until it has *adopted* them: until the engine has placed here
//! just what the agent decides, for the first time. Until then the engine may not have come to this host, which was away
//! when the cluster began to use them, or has been upgraded since. What was adopted is known from the disk at the next
//! start.
//!
//! Watches of different keys are not ordered among each other: who hears of the change may not have heard of the newest
//! placements yet, and would stop units. So `in-use` is followed apart from the rest, and is read before anything is listed.
//! When there is a change, all else is listed anew, which is newer; only with that list, and in one step, does the snapshot
//! say so. The same happens when a revision was compacted, as the store may be one that was restored from a backup of the
//! time before.

use fleet_core::model::{
    Features, InUseRecord, Key, Keys, Kind, MachineId, Snapshot, Versioned, features::GLOBAL_PLACEMENTS,
};
use imbl::OrdMap;
use tokio::sync::watch;

use crate::{
    membership::Registration,
    registry::{
        Store,
        files::Files,
        mirror::{self, Mirror},
    },
};

/// The keys of one host.
pub(super) struct OwnKeys<S> {
    /// The host.
    pub id: MachineId,
    /// The registry.
    pub store: S,
    /// The keys in it.
    pub keys: Keys,
    /// Where the unit files go that come with placements.
    pub files: Files<S>,
    /// What the host says that it understands.
    pub features: Features,
    /// Whether the engine has placed here what the agent decides about global units.
    pub agreed: watch::Receiver<bool>,
    /// Whether the agent goes by that.
    pub adopted: bool,
}

impl<S: Store> OwnKeys<S> {
    /// Follows them while the host is a member, and reads them all anew after each registration: what happened before it
    /// may have been meant for a host that was dead. Runs until dropped.
    pub async fn follow(
        mut self,
        mut registered: watch::Receiver<Option<Registration>>,
        cluster: &watch::Sender<Snapshot>,
    ) {
        loop {
            // What is scheduled to this machine ID is this host's only once the ID is: another may live under it.
            let current = match registered.wait_for(Option::is_some).await {
                Ok(registration) => registration.clone(),
                Err(_) => return,
            };
            let is_another = |new: &Option<Registration>| new.is_some() && *new != current;
            tokio::select! {
                biased;
                // A host that has lost its registration goes on following.
                another = registered.wait_for(is_another) => if another.is_err() { return },
                () = self.follow_from_lists(cluster) => return,
            }
        }
    }

    async fn follow_from_lists(&mut self, cluster: &watch::Sender<Snapshot>) {
        loop {
            let (sender, in_use) = watch::channel(Snapshot::default());
            let key = [self.keys.one(&Key::InUse)];
            let (store, keys) = (self.store.clone(), self.keys.clone());
            tokio::select! {
                biased;
                () = mirror::follow(&store, &keys, &key, &sender) => {}
                () = self.follow_while_used(in_use, cluster) => {}
            }
        }
    }

    /// Follows what is to be followed in a cluster that uses what this one does. Returns when that changes, when the agent
    /// adopts it, or when all is to be listed again.
    async fn follow_while_used(&mut self, mut in_use: watch::Receiver<Snapshot>, cluster: &watch::Sender<Snapshot>) {
        let used = async |in_use: &mut watch::Receiver<Snapshot>| {
            Some(in_use.wait_for(|known| known.complete).await.ok()?.in_use.clone())
        };
        // Who has adopted placements goes by them whatever is newer, and need not wait before it lists them.
        let before = if self.adopted { None } else { used(&mut in_use).await };
        let adopted = self.adopted;
        let may_adopt = before.as_ref().is_some_and(places) && self.features.has(GLOBAL_PLACEMENTS);
        let mut ranges = vec![self.keys.on(Kind::Sched, &self.id), self.keys.one(&Key::Metadata(self.id.clone()))];
        if !adopted {
            ranges.push(self.keys.of(Kind::Global));
        }
        let mut reading = in_use.clone();
        let shown = async {
            let used = used(&mut reading).await?;
            match (adopted, places(&used)) {
                (true, false) => None,
                (false, true) => Some(used.without(&())),
                _ => Some(used),
            }
        };
        let mut seen = before;
        let has_changed = |known: &Snapshot| {
            known.complete
                && (adopted && !places(&known.in_use)
                    || *seen.get_or_insert_with(|| known.in_use.clone()) != known.in_use)
        };
        let mirror = Mirror { store: &self.store, keys: &self.keys, cluster, files: Some(&self.files) };
        tokio::select! {
            biased;
            changed = in_use.wait_for(has_changed) => self.adopted &= changed.is_ok_and(|known| places(&known.in_use)),
            () = mirror.follow_once(&ranges, shown, |cluster, shown| cluster.in_use = shown) => {}
            Ok(_) = self.agreed.wait_for(|agreed| *agreed), if may_adopt => self.adopted = true,
        }
    }
}

/// Whether the engine places global units.
fn places(used: &OrdMap<(), Versioned<InUseRecord>>) -> bool {
    used.values().any(|used| used.record.features.has(GLOBAL_PLACEMENTS))
}
