//! The etcd members together: who leads, what they forget, and one that lost its disk.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::tool::command;
use crate::wait::{Seen, eventually};
use crate::{Lab, Member, MemberStatus};

/// etcd takes no change of its members for some seconds after the last one came.
const DEADLINE: Duration = Duration::from_secs(60);

/// `etcdctl endpoint status`, as far as it is of interest.
#[derive(Deserialize)]
struct Endpoint {
    #[serde(rename = "Status")]
    status: EndpointStatus,
}

#[derive(Deserialize)]
struct EndpointStatus {
    header: Header,
    leader: u64,
}

#[derive(Deserialize)]
struct Header {
    member_id: u64,
    revision: i64,
}

impl Lab {
    /// The member that leads, if there is one and it answers.
    pub fn store_leader(&self) -> Result<Option<Member>> {
        let members = self.members().into_iter().filter(|member| member.status() == MemberStatus::Running);
        for member in members {
            if let Ok(status) = status(&member)
                && status.leader == status.header.member_id
            {
                return Ok(Some(member));
            }
        }
        Ok(None)
    }

    /// Lets another member lead; returns when it does.
    pub fn move_store_leader(&self, to: &Member) -> Result<()> {
        let leader = self.store_leader()?.context("etcd has no leader that answers")?;
        if leader.number() == to.number() {
            return Ok(());
        }
        let id = status(to)?.header.member_id;
        ctl(&leader, &["move-leader", &format!("{id:x}")])?;
        eventually(DEADLINE, &format!("member {} leads", to.number()), || {
            Ok(self.store_leader()?.is_some_and(|leader| leader.number() == to.number()))
        })
    }

    /// Lets etcd forget all but the present state; returns the revision that it can still tell of.
    pub fn compact(&self) -> Result<i64> {
        let leader = self.store_leader()?.context("etcd has no leader that answers")?;
        let revision = status(&leader)?.header.revision;
        ctl(&leader, &["compact", &revision.to_string()])?;
        Ok(revision)
    }

    /// Takes a member's disk away and gives the cluster a new member in its place, as etcd demands it: the old one is
    /// removed, a new one added, and it starts empty. Returns when it serves. The other members must be a majority.
    pub fn replace_member(&self, member: &Member) -> Result<()> {
        if member.status() != MemberStatus::Stopped {
            member.kill()?;
        }
        fs::remove_dir_all(member.data_dir()).with_context(|| format!("cannot wipe member {}", member.number()))?;
        let others = || -> Result<Member> {
            self.store_leader()?.context("the other members have no leader: they are no majority")
        };
        let name = member.short_name();
        // Asked again while the others elect a leader, or do not take a change yet.
        eventually(DEADLINE, &format!("member {name} is removed"), || {
            let other = others()?;
            let Some(id) = id_of(&other, &name)? else { return Ok(Seen::Done(())) };
            ctl(&other, &["member", "remove", &format!("{id:x}")])?;
            Ok(Seen::NotYet("removed just now".to_owned()))
        })?;
        eventually(DEADLINE, &format!("member {name} is added"), || {
            let added = ctl(&others()?, &["member", "add", &name, &format!("--peer-urls={}", member.peer_url())]);
            match added {
                Err(error) if !format!("{error:#}").contains("Peer URLs already exists") => Err(error),
                _ => Ok(true),
            }
        })?;
        member.join()?;
        member.healthy()
    }
}

fn status(member: &Member) -> Result<EndpointStatus> {
    let text = ctl(member, &["endpoint", "status", "--write-out=json"])?;
    let endpoints: Vec<Endpoint> = serde_json::from_str(&text).context("cannot read the status of etcd")?;
    endpoints.into_iter().next().map(|endpoint| endpoint.status).context("etcd tells no status")
}

/// Members that were added and have not started yet have no name.
fn id_of(ask: &Member, name: &str) -> Result<Option<u64>> {
    #[derive(Deserialize)]
    struct List {
        members: Vec<Entry>,
    }
    #[derive(Deserialize)]
    struct Entry {
        #[serde(rename = "ID")]
        id: u64,
        #[serde(default)]
        name: String,
    }
    let text = ctl(ask, &["member", "list", "--write-out=json"])?;
    let list: List = serde_json::from_str(&text).context("cannot read the list of members")?;
    Ok(list.members.into_iter().find(|member| member.name == name).map(|member| member.id))
}

/// Asks one member alone, and not for long: others may be frozen.
fn ctl(member: &Member, args: &[&str]) -> Result<String> {
    let output = command("etcdctl")
        .env("ETCDCTL_API", "3")
        .args(["--endpoints", &member.endpoint(), "--dial-timeout=2s", "--command-timeout=4s"])
        .args(args)
        .output()
        .context("cannot run etcdctl")?;
    if !output.status.success() {
        bail!("etcdctl {} failed: {}", args.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
