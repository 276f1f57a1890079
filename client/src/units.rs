//! Calls about units, and how they are on their machines.

use std::{collections::BTreeMap, sync::Arc};

use fleet_api::{
    Failed, FailedUnit, Trace, Unit, UnitOption, UnitPage, UnitState, UnitStatePage, Why,
    paths::{self, FAILED, RESTART, STATES, TRACE, UNIT, UNITS, WHY},
};
use hyper::Method;
use tokio::time::Instant;

use crate::{Client, ClientError, NamedError, Result, STREAM};

/// How far the restart of a global unit is to go, when it goes from machine to machine.
#[derive(Clone, Debug, Default)]
pub struct Rolling {
    /// The last machine, in the order of their IDs, that restarts for now; without, all do.
    pub up_to: Option<String>,
    /// The restart that goes on; without, another one begins.
    pub generation: Option<u64>,
}

impl Client {
    /// All units.
    ///
    /// # Errors
    /// There is no good answer; so with every call.
    pub async fn units(&self) -> Result<Vec<Unit>> {
        self.list::<UnitPage>(UNITS, &[]).await
    }

    /// One unit, if the cluster knows it.
    ///
    /// # Errors
    /// There is no good answer.
    pub async fn unit(&self, name: &str) -> Result<Option<Unit>> {
        self.get(&paths::of(UNIT, name)).await
    }

    /// Those of these units that the cluster knows, in this order.
    ///
    /// # Errors
    /// The first that could not be asked about.
    pub async fn units_named(self: &Arc<Self>, names: &[String]) -> std::result::Result<Vec<Unit>, NamedError> {
        if let [name] = names {
            let unit = self.unit(name).await.map_err(|error| (name.clone(), error))?;
            return Ok(unit.into_iter().collect());
        }
        let chunks: Vec<Vec<String>> = names.chunks(STREAM).map(<[String]>::to_vec).collect();
        let pages = self.each(chunks, |client, names| async move {
            let filter: Vec<(&str, &str)> = names.iter().map(|name| ("unit", &**name)).collect();
            // A fleetd that does not know the question tells of all units.
            let found = client.list::<UnitPage>(UNITS, &filter).await;
            found.map_err(|error| (names[0].clone(), error))
        });
        let mut found: BTreeMap<String, Unit> = BTreeMap::new();
        for unit in pages.await?.into_iter().flatten() {
            found.insert(unit.name.clone(), unit);
        }
        Ok(names.iter().filter_map(|name| found.remove(name)).collect())
    }

    /// Creates a unit or gives it new contents, and sets its desired state.
    ///
    /// # Errors
    /// It is refused.
    pub async fn put(&self, name: &str, options: Vec<UnitOption>, desired: &str) -> Result<()> {
        let unit = Unit { name: name.into(), options, desired_state: desired.into(), ..Unit::default() };
        let sent = Instant::now();
        let answer = self.send(Method::PUT, &paths::of(UNIT, name), &unit).await?;
        self.taken.note([name], sent, answer.times);
        Ok(())
    }

    /// Forgets a unit. Says whether there was one.
    ///
    /// # Errors
    /// There is no good answer.
    pub async fn destroy(&self, name: &str) -> Result<bool> {
        match self.tell(Method::DELETE, &paths::of(UNIT, name)).await {
            Ok(()) => Ok(true),
            Err(ClientError::Api { code: 404, .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Asks for one restart of a unit that is launched.
    ///
    /// # Errors
    /// It is refused, or this fleetd cannot restart units.
    pub async fn restart(&self, name: &str, rolling: &Rolling) -> Result<()> {
        let generation = rolling.generation.map(|generation| generation.to_string());
        let generation = generation.as_deref().map(|generation| ("generation", generation));
        let up_to = rolling.up_to.as_deref().map(|machine| ("upTo", machine));
        let path = paths::query(&paths::of(RESTART, name), generation.into_iter().chain(up_to));
        self.tell(Method::POST, &path).await
    }

    /// All states that agents report.
    ///
    /// # Errors
    /// There is no good answer.
    pub async fn states(&self) -> Result<Vec<UnitState>> {
        self.list::<UnitStatePage>(STATES, &[]).await
    }

    /// The states of one unit.
    ///
    /// # Errors
    /// There is no good answer.
    pub async fn states_of(&self, name: &str) -> Result<Vec<UnitState>> {
        self.list::<UnitStatePage>(STATES, &[("unitName", name)]).await
    }

    /// Where a unit runs or could run. `None` for units that do not exist.
    ///
    /// # Errors
    /// Also that fleetd is CoreOS fleet's, which does not know such questions.
    pub async fn why(&self, name: &str) -> Result<Option<Why>> {
        match self.get::<Why>(&paths::of(WHY, name)).await? {
            Some(why) if why.summary.is_empty() => Err(self.pool.unreadable("it does not say why")),
            why => Ok(why),
        }
    }

    /// The units that should run and do not.
    ///
    /// # Errors
    /// Also that fleetd does not know the question.
    pub async fn failed(&self) -> Result<Vec<FailedUnit>> {
        let answer = self.pool.ask(Method::GET, FAILED, None).await?;
        self.decode::<Failed>(&answer).map(|failed| failed.units)
    }

    /// When the last start of a unit went through the cluster. `None` when that is not known.
    ///
    /// # Errors
    /// There is no good answer.
    pub async fn trace(&self, name: &str) -> Result<Option<Trace>> {
        match self.get::<Trace>(&paths::of(TRACE, name)).await {
            Err(ClientError::Api { code: 404 | 409, .. }) => Ok(None),
            answer => answer,
        }
    }
}
