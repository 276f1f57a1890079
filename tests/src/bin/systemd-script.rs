//! Runs the script of `contract::systemd` against the systemd of the host that it runs on, and prints what it saw.

use fleet_tests::contract::systemd;
use fleetd::{
    filesystem::Real,
    systemd::{Bus, Dbus, Systemd},
};

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let (dbus, drain) = Dbus::new(Bus::System);
    let drain = tokio::spawn(drain);
    // Everything is looked at once the signals come.
    dbus.dirty().mark_all();
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    let seen = systemd::observe(&dbus, &Real).await;
    drain.abort();
    println!("{}", serde_json::to_string(&seen).expect("strings"));
}
