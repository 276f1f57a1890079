use super::{
    super::{copies::Birth, fault::Kind as FaultKind},
    *,
};

const TTL: Duration = Duration::from_secs(10);

fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn unit(name: &str, kind: Kind) -> Unit {
    Unit { name: name.into(), kind, with: (kind == Kind::Affine).then(|| "a".into()) }
}

fn copy(unit: &str, host: &str, start: u64, alive: u64) -> Copy {
    let birth =
        Birth { unit: unit.into(), host: host.into(), invocation: format!("{unit}{host}{start}"), start: s(start) };
    Copy { birth, alive: s(alive), ended: true }
}

/// At work from 100 to 120, over at 130.
fn struck(kind: FaultKind, hosts: &[&str]) -> Struck {
    let hosts = hosts.iter().map(|host| (*host).to_owned()).collect();
    Struck {
        fault: Fault { kind, hosts, member: 1, hold: s(20), until_moved: false },
        start: s(100),
        end: s(120),
        recovered: s(128),
        settled: s(130),
        unsettled: Vec::new(),
        moved: None,
        alone: true,
    }
}

fn record(kind: Kind, copies: Vec<Copy>, faults: Vec<Struck>) -> Record {
    let hosts = ["h1", "h2", "h3"].map(str::to_owned).to_vec();
    Record { ttl: TTL, hosts, units: vec![unit("a", kind), unit("b", kind)], faults, copies, ..Record::default() }
}

fn verdict(kind: Kind, copies: Vec<Copy>, faults: Vec<Struck>) -> Vec<String> {
    judge(&record(kind, copies, faults)).iter().map(Breach::to_string).collect()
}

#[test]
fn undisturbed_copy_is_no_breach() {
    assert!(verdict(Kind::Ordinary, vec![copy("a", "h1", 1, 200)], vec![struck(FaultKind::Cut, &["h1"])]).is_empty());
}

#[test]
fn start_needs_a_fault_of_the_host_that_the_copy_before_ran_on() {
    let moved = || vec![copy("a", "h1", 1, 111), copy("a", "h2", 112, 200)];
    assert!(verdict(Kind::Ordinary, moved(), vec![struck(FaultKind::PowerLost, &["h1"])]).is_empty());
    let told = ["a was moved from h1 to h2"];
    assert_eq!(verdict(Kind::Ordinary, moved(), vec![struck(FaultKind::PowerLost, &["h2"])]), told);
    assert_eq!(verdict(Kind::Ordinary, moved(), vec![]), told);
    assert_eq!(verdict(Kind::Ordinary, moved(), vec![struck(FaultKind::DaemonKilled, &["h1"])]), told);
}

#[test]
fn fault_excuses_nothing_after_all_has_recovered() {
    let copies = vec![copy("a", "h1", 1, 130), copy("a", "h1", 131, 200)];
    assert_eq!(verdict(Kind::Ordinary, copies, vec![struck(FaultKind::PowerLost, &["h1"])]), ["a was restarted on h1"]);
}

#[test]
fn unit_on_a_host_that_is_cut_off_may_start_elsewhere_but_not_there() {
    let cut = || vec![struck(FaultKind::Cut, &["h1"])];
    assert!(verdict(Kind::Ordinary, vec![copy("a", "h1", 1, 121), copy("a", "h2", 111, 200)], cut()).is_empty());
    let again = vec![copy("a", "h1", 1, 110), copy("a", "h1", 111, 200)];
    assert_eq!(verdict(Kind::Ordinary, again.clone(), cut()), ["a was restarted on h1"]);
    assert!(verdict(Kind::Strict, again.clone(), cut()).is_empty(), "a strict one stops when it must and starts again");
    assert_eq!(verdict(Kind::Global, again, cut()), ["a was restarted on h1"]);
}

#[test]
fn unit_whose_new_host_is_lost_before_it_starts_there_may_start_where_it_was() {
    let again = || vec![copy("a", "h1", 1, 121), copy("a", "h1", 123, 200)];
    let cut = |host| struck(FaultKind::Cut, &[host]);
    assert!(verdict(Kind::Ordinary, again(), vec![cut("h1"), cut("h2")]).is_empty());
    assert_eq!(verdict(Kind::Ordinary, again(), vec![cut("h1")]), ["a was restarted on h1"]);
    assert_eq!(verdict(Kind::Ordinary, again(), vec![cut("h2"), cut("h3")]), ["a was restarted on h1"]);
    let together = vec![cut("h1"), struck(FaultKind::ManyCut, &["h2"])];
    assert_eq!(verdict(Kind::Ordinary, again(), together), ["a was restarted on h1"]);
    assert_eq!(verdict(Kind::Global, again(), vec![cut("h1"), cut("h2")]), ["a was restarted on h1"]);
}

#[test]
fn cut_that_is_shorter_than_a_lease_is_not_noticed() {
    let mut brief = struck(FaultKind::Cut, &["h1"]);
    brief.fault.hold = s(2);
    let copies = vec![copy("a", "h1", 1, 110), copy("a", "h2", 111, 200)];
    assert_eq!(verdict(Kind::Strict, copies, vec![brief]), ["a was moved from h1 to h2"]);
}

#[test]
fn store_that_is_away_stops_strict_units_and_no_other_and_moves_none() {
    let away = || vec![struck(FaultKind::StoreFrozen, &[])];
    let again = || vec![copy("a", "h1", 1, 110), copy("a", "h1", 121, 200)];
    assert!(verdict(Kind::Strict, again(), away()).is_empty());
    assert_eq!(verdict(Kind::Ordinary, again(), away()), ["a was restarted on h1"]);
    let moved = vec![copy("a", "h1", 1, 110), copy("a", "h2", 121, 200)];
    assert_eq!(verdict(Kind::Strict, moved, away()), ["a was moved from h1 to h2"]);
}

#[test]
fn many_hosts_that_come_back_soon_get_their_units_back() {
    let dark = || vec![struck(FaultKind::ManyPowerLost, &["h1", "h2"])];
    assert!(verdict(Kind::Ordinary, vec![copy("a", "h1", 1, 100), copy("a", "h1", 121, 200)], dark()).is_empty());
    let moved = vec![copy("a", "h1", 1, 100), copy("a", "h3", 115, 200)];
    assert_eq!(verdict(Kind::Ordinary, moved, dark()), ["a was moved from h1 to h3"]);
}

#[test]
fn two_copies_are_excused_while_a_host_is_silent_and_until_it_was_told() {
    let cut = || vec![struck(FaultKind::Cut, &["h1"])];
    let until = |end| vec![copy("a", "h1", 1, end), copy("a", "h2", 111, 300)];
    assert!(verdict(Kind::Ordinary, until(134), cut()).is_empty());
    assert_eq!(verdict(Kind::Ordinary, until(136), cut()), ["a on h1 and a on h2 ran at once for 25.0s"]);
    assert_eq!(verdict(Kind::Strict, until(112), cut()), ["a on h1 and a on h2 ran at once for 1.0s (strict)"]);
    let not_silent = vec![struck(FaultKind::Rebooted, &["h1"])];
    assert_eq!(verdict(Kind::Ordinary, until(112), not_silent), ["a on h1 and a on h2 ran at once for 1.0s"]);
}

#[test]
fn two_copies_on_one_host_are_never_excused() {
    let copies = vec![copy("a", "h1", 1, 112), copy("a", "h1", 111, 200)];
    let told = verdict(Kind::Ordinary, copies, vec![struck(FaultKind::PowerLost, &["h1"])]);
    assert_eq!(told, ["a on h1 and a on h1 ran at once for 1.0s"]);
}

#[test]
fn copies_on_different_hosts_are_what_a_global_unit_is() {
    assert!(verdict(Kind::Global, vec![copy("a", "h1", 1, 200), copy("a", "h2", 2, 200)], vec![]).is_empty());
}

#[test]
fn units_that_exclude_each_other_do_not_meet() {
    let copies = vec![copy("a", "h1", 1, 200), copy("b", "h1", 150, 200)];
    assert_eq!(verdict(Kind::Conflicting, copies.clone(), vec![]), ["a on h1 and b on h1 ran at once for 50.0s"]);
    assert!(verdict(Kind::Ordinary, copies, vec![]).is_empty());
}

#[test]
fn what_did_not_recover_is_told_with_its_fault() {
    let mut lost = struck(FaultKind::PowerLost, &["h1"]);
    lost.unsettled.push("a runs nowhere".into());
    let record = record(Kind::Ordinary, Vec::new(), vec![struck(FaultKind::Cut, &["h1"]), lost]);
    let breaches = judge(&record);
    assert_eq!(breaches[0].faults(&record).len(), 2, "both were at work");
    assert_eq!(breaches, [Breach::Lost { what: "a runs nowhere".into(), fault: 1 }]);
}

#[test]
fn each_kind_of_unit_is_missed_in_its_own_way() {
    let hosts = ["h1", "h2"].map(str::to_owned);
    let alive = |unit: &str, host: &str| Copy { ended: false, ..copy(unit, host, 1, 50) };
    let check = |unit: Unit, copies: &[Copy]| missing(&[unit], &hosts, copies, s(50));
    let ordinary = || unit("b", Kind::Ordinary);
    assert_eq!(check(ordinary(), &[]), ["b (ordinary) runs nowhere"]);
    assert!(check(ordinary(), &[alive("b", "h2")]).is_empty());
    assert_eq!(check(ordinary(), &[alive("b", "h2"), alive("b", "h1")]), ["b (ordinary) runs on h1, h2"]);
    assert_eq!(check(ordinary(), &[copy("b", "h2", 1, 50)]), ["b (ordinary) runs nowhere"], "it has ended");
    assert_eq!(check(unit("b", Kind::Global), &[alive("b", "h2")]), ["b (global) runs on h2"]);
    assert!(check(unit("b", Kind::Failing), &[]).is_empty());
    let pair = [alive("b", "h2"), alive("a", "h1")];
    assert_eq!(check(unit("b", Kind::Affine), &pair), ["b (affine) runs on h2"]);
    assert!(check(unit("b", Kind::Affine), &[alive("b", "h2"), alive("a", "h2")]).is_empty());
}
