//! What fleet rests on in [`fleetd::systemd::Systemd`].
