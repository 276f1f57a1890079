//! `/units`: what is wanted of units.

use std::{collections::HashSet, str::FromStr};

use axum::{
    extract::State,
    http::{HeaderMap, Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use fleet_api::{self as api, Again, Unit, UnitPage, UnitStatus, options_of};
use fleet_core::{
    model::{Desired, Key, Keys, MachineId, Record, Snapshot, Standing, UnitRecord},
    unit::{Requirements, UnitFile, UnitHash, UnitName, verify::MAX_FILE},
};

use tokio::time::Instant;

use super::{
    Api, ApiError, Shared, TRIES, aged, body, go_client, only,
    page::page,
    request::{Name, Query, Whole},
    status::Index,
    trace::times,
    watch::asked,
};
use crate::registry::{Guard, Revision, Store, Transaction, Write};

/// `GET /units`
pub(super) async fn collection<S: Store>(
    State(api): Shared<S>,
    method: Method,
    query: Query,
) -> Result<Response, ApiError> {
    only(&method, &[Method::GET], "GET")?;
    let asked = asked(&query)?;
    let reading = api.view.read().await?;
    let cluster = &reading.cluster;
    if !asked.is_empty() {
        // No more than can be named in a request, so on one page.
        let known = |name: &&UnitName| cluster.units.contains_key(*name) || cluster.globals.contains_key(*name);
        let mut names: Vec<&UnitName> = asked.iter().filter(known).collect();
        names.sort_unstable();
        let units = units(&api, cluster, &names).await?;
        return Ok(aged(UnitPage { units, next_page_token: None }, reading.age));
    }
    let mut names: Vec<&UnitName> = cluster.units.keys().chain(cluster.globals.keys()).collect();
    names.sort_unstable();
    names.dedup();
    let (names, next_page_token) = page(names, &query, api.token_limit)?;
    let units = units(&api, cluster, &names).await?;
    if next_page_token.is_none() {
        let records = cluster.units.values().chain(cluster.globals.values());
        let used: HashSet<UnitHash> = records.map(|record| record.record.hash).collect();
        api.files.retain(|hash| used.contains(hash));
    }
    Ok(aged(UnitPage { units, next_page_token }, reading.age))
}

/// `GET`, `PUT` and `DELETE /units/{name}`
pub(super) async fn one<S: Store>(
    State(api): Shared<S>,
    method: Method,
    Name(name): Name,
    headers: HeaderMap,
    Whole(body): Whole,
) -> Result<Response, ApiError> {
    match method {
        Method::GET => get(&api, &name, go_client::is(&headers)).await,
        Method::PUT => put(&api, &name, &headers, &body).await,
        Method::DELETE => delete(&api, &name).await.map(IntoResponse::into_response),
        _ => Err(ApiError::method_not_allowed("only GET, PUT and DELETE supported against this resource")),
    }
}

async fn get<S: Store>(api: &Api<S>, name: &str, by_go_client: bool) -> Result<Response, ApiError> {
    let name = UnitName::new(name).map_err(|_| missing())?;
    let reading = api.view.read().await?;
    let known = reading.cluster.units.contains_key(&name) || reading.cluster.globals.contains_key(&name);
    if !known {
        return Err(missing());
    }
    let mut unit = units(api, &reading.cluster, &[&name]).await?.pop().ok_or_else(missing)?;
    if by_go_client {
        unit.current_state = api.go_clients.shown(&name, &status(&reading.cluster, &name), Instant::now());
    }
    Ok(aged(unit, reading.age))
}

/// How one unit stands.
fn status(cluster: &Snapshot, name: &UnitName) -> UnitStatus {
    Index::new(cluster, Some(&[name.clone()].into())).status(name)
}

/// Units with their contents.
async fn units<S: Store>(api: &Api<S>, cluster: &Snapshot, names: &[&UnitName]) -> Result<Vec<Unit>, ApiError> {
    let asked: HashSet<UnitName> = names.iter().map(|name| (*name).clone()).collect();
    let index = Index::new(cluster, Some(&asked));
    let record =
        |name: &UnitName| cluster.units.get(name).or_else(|| cluster.globals.get(name)).map(|value| &value.record);
    let files = api.files.get(names.iter().filter_map(|name| record(name)).map(|record| record.hash)).await?;
    let unit = |name: &UnitName| {
        let status = index.status(name);
        Unit {
            current_state: status.current_state,
            desired_state: status.desired_state,
            machine_id: status.machine_id,
            options: record(name)
                .and_then(|record| files.get(&record.hash))
                .map(|file| options_of(file))
                .unwrap_or_default(),
            name: status.name,
        }
    };
    Ok(names.iter().map(|name| unit(name)).collect())
}

/// A unit as the store has it now.
pub(super) struct Present {
    /// What is wanted of it, and whether it is global.
    pub record: Option<(UnitRecord, bool)>,
    /// The revisions of its two possible keys.
    pub ordinary: Revision,
    pub global: Revision,
    /// Whether the contents asked about are stored.
    pub has_file: bool,
    /// The revision that it was read at.
    pub revision: Revision,
}

impl Present {
    /// Whether exactly this is wanted of it already.
    pub fn is(&self, record: &UnitRecord, global: bool) -> bool {
        self.record.as_ref().is_some_and(|(now, is_global)| now == record && *is_global == global)
    }

    /// Whether there is anything of it.
    pub fn exists(&self) -> bool {
        (self.ordinary, self.global) != (0, 0)
    }
}

async fn present<S: Store>(api: &Api<S>, name: &UnitName, file: Option<UnitHash>) -> Result<Present, ApiError> {
    let keys = [Key::Unit(name.clone()), Key::Global(name.clone())].into_iter().chain(file.map(Key::File));
    let keys: Vec<String> = keys.map(|key| api.keys.format(&key)).collect();
    let page = api.store.get(&keys).await?;
    let mut present = Present { record: None, ordinary: 0, global: 0, has_file: false, revision: page.revision };
    for stored in page.entries {
        if keys.get(2) == Some(&stored.key) {
            // What others have put there in its place is overwritten.
            let text = std::str::from_utf8(&stored.value);
            present.has_file = text.is_ok_and(|text| Some(UnitHash::of(text)) == file);
            continue;
        }
        let is_global = stored.key == keys[1];
        *(if is_global { &mut present.global } else { &mut present.ordinary }) = stored.mod_revision;
        // One that cannot be read counts as absent, and is overwritten or deleted like any other.
        if let Ok(record) = UnitRecord::decode(&stored.value) {
            present.record = Some((record, is_global));
        }
    }
    Ok(present)
}

/// What is to be wanted of a unit, as a transaction that is guarded by what was there.
pub(super) fn transaction(
    keys: &Keys,
    name: &UnitName,
    present: &Present,
    wanted: Option<(&UnitRecord, bool)>,
    new: Option<&New>,
) -> Transaction {
    let places = [Key::Unit(name.clone()), Key::Global(name.clone())].map(|key| keys.format(&key));
    let revisions = [present.ordinary, present.global];
    let guards = places.iter().cloned().zip(revisions).map(|(key, revision)| Guard::Unchanged(key, revision)).collect();
    let mut writes = Vec::new();
    if let (Some(new), Some((record, _))) = (new, wanted) {
        writes.push(Write::put(keys.format(&Key::File(record.hash)), new.text.clone().into_bytes()));
    }
    for (key, (is_global, revision)) in places.into_iter().zip([(false, present.ordinary), (true, present.global)]) {
        match wanted {
            Some((record, global)) if global == is_global => writes.push(Write::put(key, record.encode())),
            _ if revision != 0 => writes.push(Write::Delete { key }),
            _ => {}
        }
    }
    Transaction { guards, writes }
}

/// Writes what is to be wanted of a unit. Whether nobody else has changed it meanwhile.
async fn write<S: Store>(
    api: &Api<S>,
    name: &UnitName,
    present: &Present,
    wanted: Option<(&UnitRecord, bool)>,
    new: Option<&New>,
) -> Result<bool, ApiError> {
    let revision = api.store.commit(transaction(&api.keys, name, present, wanted, new)).await?;
    if let Some(revision) = revision {
        api.view.seen(revision).await;
    }
    Ok(revision.is_some())
}

async fn put<S: Store>(api: &Api<S>, name: &str, headers: &HeaderMap, body: &[u8]) -> Result<Response, ApiError> {
    let received = Instant::now();
    json_only(headers)?;
    let unit: Unit = body::decode(body)
        .map_err(|error| ApiError::bad_request(&format!("unable to decode body: {}", error.of_go("schema.Unit"))))?;
    if !unit.name.is_empty() && unit.name != name {
        return Err(ApiError::bad_request(&format!(
            "name in URL {name:?} differs from unit name in request body {:?}",
            unit.name
        )));
    }
    let mut wish = Wish::read(name, &unit.desired_state, unit.options)?;
    let cluster = api.view.read().await?.cluster;
    let before = go_client::is(headers).then(|| self::status(&cluster, &wish.name));
    wish.again = match wish.desired {
        desired if before.is_some() && api.go_clients.is_restart(&wish.name, desired, received) => Again::Restart,
        // Programs say again and again what they want: that is to cost no write while it is so.
        Some(Desired::Launched) if is_off(&cluster, &wish.name) => Again::Ensure,
        _ => Again::No,
    };
    let (status, checked) = set(api, &wish).await?;
    if let Some(before) = before {
        api.go_clients.take_note(&wish.name, wish.desired, &before, Instant::now());
    }
    Ok((times(received, checked), status).into_response())
}

/// Whether a unit that is wanted launched is known not to run on a machine where it should.
fn is_off(cluster: &Snapshot, name: &UnitName) -> bool {
    let states = cluster.machines.keys().filter_map(|machine| cluster.states.get(&(machine.clone(), name.clone())));
    states.into_iter().any(|state| Standing::of(Desired::Launched, &state.record) == Standing::Off)
}

/// What a request wants of a unit.
pub(super) struct Wish {
    /// The unit.
    pub name: UnitName,
    /// Its contents, when they came with the request.
    pub new: Option<New>,
    /// What is wanted, when that was said.
    pub desired: Option<Desired>,
    /// Whether that is asked for also if it was wanted before.
    pub again: Again,
}

impl Wish {
    /// Reads and checks what came with a request.
    pub fn read(name: &str, desired: &str, options: Vec<api::UnitOption>) -> Result<Self, ApiError> {
        let name = UnitName::new(name).map_err(|error| ApiError::bad_request(&error.to_string()))?;
        let desired = match desired {
            "" => None,
            word => Some(Desired::from_str(word).map_err(|error| ApiError::bad_request(&error))?),
        };
        let options: Vec<_> = options.into_iter().map(Into::into).collect();
        let file = UnitFile::from_options(&options).map_err(|error| ApiError::bad_request(&error.to_string()))?;
        let text = file.canonical();
        if text.len() > MAX_FILE {
            return Err(ApiError::bad_request(&format!(
                "unit file has {} bytes, at most {MAX_FILE} are taken",
                text.len()
            )));
        }
        let (requirements, _) =
            Requirements::read_new(&file, &name).map_err(|error| ApiError::bad_request(&error.to_string()))?;
        let new = (!options.is_empty()).then(|| New { hash: UnitHash::of(&text), text, global: requirements.global });
        Ok(Self { name, new, desired, again: Again::No })
    }
}

/// Writes a wish. Returns the status that says so, and when it had been compared with what was there.
pub(super) async fn set<S: Store>(api: &Api<S>, wish: &Wish) -> Result<(StatusCode, Instant), ApiError> {
    let new = wish.new.as_ref();
    for _ in 0..TRIES {
        let present = present(api, &wish.name, new.map(|new| new.hash)).await?;
        let checked = Instant::now();
        let (record, global, status) = next(wish, &present)?;
        if present.is(&record, global) && (new.is_none() || present.has_file) {
            return Ok((StatusCode::NO_CONTENT, checked));
        }
        if write(api, &wish.name, &present, Some((&record, global)), new).await? {
            return Ok((status, checked));
        }
    }
    Err(ApiError::conflict("the unit is being changed by others, try again"))
}

/// Contents that came with a request.
pub(super) struct New {
    text: String,
    hash: UnitHash,
    global: bool,
}

/// What the record of a unit becomes, whether it is global, and the status that says so.
pub(super) fn next(wish: &Wish, present: &Present) -> Result<(UnitRecord, bool, StatusCode), ApiError> {
    let Wish { name, new, desired, again } = wish;
    match (&present.record, new) {
        (None, None) => Err(ApiError::conflict("unit does not exist and options field empty")),
        (None, Some(new)) => {
            // The revision sets apart a unit that is destroyed and submitted again from one that never went.
            let generation = u64::try_from(present.revision).unwrap_or_default();
            let record = UnitRecord::new(new.hash, desired.unwrap_or(Desired::Inactive), generation);
            Ok((record, new.global, StatusCode::CREATED))
        }
        (Some(_), _) if name.is_template() && desired.is_some_and(|desired| desired != Desired::Inactive) => {
            Err(ApiError::bad_request(&format!("cannot activate template \"{name}\"")))
        }
        (Some((now, _)), Some(new)) if new.hash != now.hash => {
            let desired = desired.unwrap_or(Desired::Inactive);
            let record = UnitRecord { hash: new.hash, desired, restarted_to: None, ..now.clone() };
            Ok((record, new.global, StatusCode::CREATED))
        }
        (Some((now, global)), _) => {
            let desired =
                desired.ok_or_else(|| ApiError::conflict("must provide DesiredState to update existing unit"))?;
            let record = UnitRecord { desired, ..now.clone() };
            let record = match again {
                Again::Restart => record.restarted(),
                Again::Ensure if record == *now && desired != Desired::Inactive => record.asked_again(),
                _ => record,
            };
            Ok((record, *global, StatusCode::NO_CONTENT))
        }
    }
}

pub(super) async fn delete<S: Store>(api: &Api<S>, name: &str) -> Result<StatusCode, ApiError> {
    let name = UnitName::new(name).map_err(|_| missing())?;
    for _ in 0..TRIES {
        let present = present(api, &name, None).await?;
        if !present.exists() {
            return Err(missing());
        }
        if write(api, &name, &present, None, None).await? {
            return Ok(StatusCode::NO_CONTENT);
        }
    }
    Err(ApiError::conflict("the unit is being changed by others, try again"))
}

/// How far a restart is to go, when it goes from machine to machine.
struct Rolling {
    /// The last machine, in the order of their IDs, that restarts for now; without, all do.
    up_to: Option<MachineId>,
    /// The restart that goes on; without, another one begins.
    generation: Option<u64>,
}

impl Rolling {
    /// Reads `?upTo=MACHINE&generation=NUMBER`.
    fn read(query: &Query) -> Result<Self, ApiError> {
        let up_to = query.get("upTo").map(|id| MachineId::new(&id)).transpose();
        let generation = query.get("generation").map(|number| number.parse()).transpose();
        Ok(Self {
            up_to: up_to.map_err(|error| ApiError::bad_request(&format!("upTo in query: {error}")))?,
            generation: generation.map_err(|_| ApiError::bad_request("generation in query is no number"))?,
        })
    }
}

/// `POST /units/{name}/restart`
pub(super) async fn restart<S: Store>(
    State(api): Shared<S>,
    method: Method,
    Name(name): Name,
    query: Query,
) -> Result<StatusCode, ApiError> {
    only(&method, &[Method::POST], "POST")?;
    let name = UnitName::new(&name).map_err(|_| missing())?;
    let rolling = Rolling::read(&query)?;
    for _ in 0..TRIES {
        let present = present(&api, &name, None).await?;
        let Some((record, global)) = &present.record else { return Err(missing()) };
        let next = restarted(record, *global, &rolling)?;
        if next == *record || write(&api, &name, &present, Some((&next, *global)), None).await? {
            return Ok(StatusCode::NO_CONTENT);
        }
    }
    Err(ApiError::conflict("the unit is being changed by others, try again"))
}

/// What the record of a unit becomes that is to restart.
fn restarted(record: &UnitRecord, global: bool, rolling: &Rolling) -> Result<UnitRecord, ApiError> {
    if record.desired != Desired::Launched {
        return Err(ApiError::conflict(&format!("unit is {}, only launched units restart", record.desired)));
    }
    let Rolling { up_to, generation } = rolling;
    if up_to.is_some() && !global {
        return Err(ApiError::bad_request("only global units restart on one machine after the other"));
    }
    match generation {
        None => Ok(UnitRecord { restarted_to: up_to.clone().map(Box::new), ..record.restarted() }),
        Some(generation) if *generation != record.generation => {
            Err(ApiError::conflict("another restart of the unit has begun meanwhile"))
        }
        // One that has come to all machines cannot go back.
        Some(_) => {
            let restarted_to = record.restarted_to.clone().zip(up_to.clone().map(Box::new));
            let restarted_to = restarted_to.map(|(known, up_to)| known.max(up_to));
            Ok(UnitRecord { restarted_to, ..record.clone() })
        }
    }
}

pub(super) fn missing() -> ApiError {
    ApiError::not_found("unit does not exist")
}

pub(super) fn json_only(headers: &HeaderMap) -> Result<(), ApiError> {
    let given: Vec<_> = headers.get_all(header::CONTENT_TYPE).iter().collect();
    match given[..] {
        [one] => {
            let media = one.to_str().unwrap_or_default().split(';').next().unwrap_or_default().trim();
            if media.eq_ignore_ascii_case("application/json") {
                Ok(())
            } else {
                Err(ApiError::unsupported_media_type("only acceptable Content-Type is application/json"))
            }
        }
        _ => Err(ApiError::unsupported_media_type(&format!("expected 1 Content-Type, got {}", given.len()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new(text: &str) -> New {
        let text = UnitFile::parse(text).unwrap().canonical();
        New { hash: UnitHash::of(&text), text, global: false }
    }

    #[test]
    fn requests_become_records_as_clients_expect() {
        let name = UnitName::new("a.service").unwrap();
        let (old, other) = (new("[Unit]\nDescription=old\n"), new("[Unit]\nDescription=new\n"));
        let absent = Present { record: None, ordinary: 0, global: 0, has_file: false, revision: 42 };
        let there = |desired| Present {
            record: Some((UnitRecord::new(old.hash, desired, 7), false)),
            ordinary: 40,
            global: 0,
            has_file: true,
            revision: 42,
        };
        let wish = |name: &UnitName, new: Option<&New>, desired| Wish {
            name: name.clone(),
            new: new.map(|New { text, hash, global }| New { text: text.clone(), hash: *hash, global: *global }),
            desired,
            again: Again::No,
        };
        let outcome = |present: &Present, new: Option<&New>, desired| {
            next(&wish(&name, new, desired), present)
                .map(|(record, _, status)| (record.desired, record.generation, status.as_u16()))
        };
        use Desired::{Inactive, Launched, Loaded};
        assert_eq!(outcome(&absent, Some(&old), None), Ok((Inactive, 42, 201)));
        assert_eq!(outcome(&absent, Some(&old), Some(Launched)), Ok((Launched, 42, 201)));
        assert_eq!(outcome(&there(Inactive), None, Some(Loaded)), Ok((Loaded, 7, 204)));
        assert_eq!(outcome(&there(Loaded), Some(&old), Some(Launched)), Ok((Launched, 7, 204)));
        assert_eq!(outcome(&there(Launched), Some(&other), Some(Launched)), Ok((Launched, 7, 201)));
        assert_eq!(outcome(&there(Launched), Some(&other), None), Ok((Inactive, 7, 201)));
        let conflict = |message| Err(ApiError::conflict(message));
        assert_eq!(outcome(&absent, None, Some(Loaded)), conflict("unit does not exist and options field empty"));
        assert_eq!(
            outcome(&there(Loaded), Some(&old), None),
            conflict("must provide DesiredState to update existing unit")
        );
        let template = UnitName::new("a@.service").unwrap();
        let refused = next(&wish(&template, None, Some(Loaded)), &there(Inactive)).unwrap_err();
        assert_eq!(refused, ApiError::bad_request("cannot activate template \"a@.service\""));

        let asked = |again, desired| {
            let wish = Wish { again, ..wish(&name, None, Some(desired)) };
            next(&wish, &there(Launched)).map(|(record, ..)| (record.request, record.generation))
        };
        assert_eq!(asked(Again::No, Launched), Ok((0, 7)), "said again, and nothing is off");
        assert_eq!(asked(Again::Ensure, Launched), Ok((1, 7)), "asked for once more");
        assert_eq!(asked(Again::Ensure, Loaded), Ok((0, 7)), "another state asks enough");
        assert_eq!(asked(Again::Ensure, Inactive), Ok((0, 7)));
        assert_eq!(asked(Again::Restart, Launched), Ok((0, 8)));
    }

    #[test]
    fn a_rolling_restart_goes_on_from_machine_to_machine_and_never_back() {
        let id = |digit: &str| MachineId::new(&digit.repeat(32)).unwrap();
        let record = UnitRecord::new(UnitHash::of(""), Desired::Launched, 7);
        let step = |record: &UnitRecord, up_to: Option<&str>, generation| {
            let rolling = Rolling { up_to: up_to.map(id), generation };
            restarted(record, true, &rolling)
        };
        let first = step(&record, Some("1"), None).unwrap();
        assert_eq!((first.generation, first.restarted_to.as_deref()), (8, Some(&id("1"))));
        let second = step(&first, Some("3"), Some(8)).unwrap();
        assert_eq!((second.generation, second.restarted_to.as_deref()), (8, Some(&id("3"))));
        assert_eq!(step(&second, Some("2"), Some(8)).unwrap(), second);
        let last = step(&second, None, Some(8)).unwrap();
        assert_eq!((last.generation, last.restarted_to.as_deref()), (8, None));
        assert_eq!(step(&last, Some("2"), Some(8)).unwrap(), last, "one that is over");
        let other = step(&second, Some("2"), Some(7)).unwrap_err();
        assert_eq!(other, ApiError::conflict("another restart of the unit has begun meanwhile"));
        assert_eq!(step(&last, None, None).unwrap().generation, 9);
        let one = Rolling { up_to: Some(id("1")), generation: None };
        assert_eq!(restarted(&record, false, &one).unwrap_err().status(), StatusCode::BAD_REQUEST);
    }
}
