//! The table of section 4: names and requirements that are refused, by `fleetctl` and by PUT in the same words.

use anyhow::{Result, ensure};
use fleet_tests::http::Connection;
use serde_json::{Value, json};

use super::script::Stage;

/// Names, and what is wrong with them. `fleetctl` appends `.service` to those without a suffix that it knows, so that
/// some can only be put.
const NAMES: [(&str, &str); 12] = [
    ("hello", "unit name must contain \".\""),
    ("hello.", "unit name cannot end in \".\""),
    ("hello.bogus", "invalid unit type: \"bogus\""),
    ("a@b.mount", "invalid unit type for template: \"mount\""),
    ("a@.automount", "invalid unit type for template: \"automount\""),
    ("a@b.device", "invalid unit type for template: \"device\""),
    ("he!lo.service", "invalid character '!' in unit name"),
    ("he lo.service", "invalid character ' ' in unit name"),
    ("he%lo.timer", "invalid character '%' in unit name"),
    ("@.service", "unit name cannot start in \"@\""),
    ("@one.service", "unit name cannot start in \"@\""),
    (LONG, "unit name exceeds maximum length (256)"),
];

/// 257 bytes.
const LONG: &str = concat!(
    "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789",
    "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789",
    "0123456789012345678901234567890123456789012345678",
    ".service"
);

/// Names that are fine, one of each type.
const GOOD_NAMES: [&str; 17] = [
    "a.automount",
    "a.busname",
    "a.device",
    "a.mount",
    "a.path",
    "a.scope",
    "a.service",
    "a.slice",
    "a.snapshot",
    "a.socket",
    "a.swap",
    "a.target",
    "a.timer",
    "a@1.path",
    "a@1.socket",
    "a@1.target",
    r"A-Z_0:9.x\x2d@i@j.timer",
];

/// Lines of `[X-Fleet]` that exclude or contradict each other. The last of each pair is the message.
const REQUIREMENTS: [(&str, &str); 10] = [
    ("MachineID=a\nMachineOf=x.service", "MachineID cannot be used with Peers"),
    ("MachineID=a\nConflicts=x.service", "MachineID cannot be used with Conflicts"),
    ("MachineID=a\nGlobal=true", "MachineID cannot be used with Global"),
    ("MachineID=a\nReplaces=x.service", "MachineID cannot be used with Replaces"),
    ("Global=true\nMachineOf=x.service", "Global cannot be used with Peers"),
    ("Global=true\nReplaces=x.service", "Global cannot be used with Replaces"),
    ("Conflicts=x.service\nReplaces=y.service", "Conflicts cannot be used with Replaces"),
    ("MachineOf=x.service\nConflicts=x.*", "unresolvable requirements: peer \"x.service\" matches conflict \"x.*\""),
    ("MachineOf=x.service\nReplaces=x.*", "unresolvable requirements: peer \"x.service\" matches replace \"x.*\""),
    ("X-ConditionMachineID=a\nX-Conflicts=x.service", "MachineID cannot be used with Conflicts"),
];

/// Runs both tables.
pub fn check(stage: &mut Stage) {
    for (name, message) in NAMES {
        let put = put(stage, name, "");
        stage.check(&format!("4 PUT of {name}"), put.and_then(|answer| refused(&answer, message)));
        // What has a suffix that fleetctl knows reaches the check as it is.
        let known = ["service", "socket", "timer", "path", "device", "mount", "automount"];
        let suffixed = name.rsplit_once('.').is_some_and(|(_, suffix)| known.contains(&suffix));
        // No file system takes a name of 257 bytes.
        if suffixed && name != LONG {
            let submitted = submit(stage, name, "", message);
            stage.check(&format!("4 submit {name}"), submitted);
        }
    }
    for name in GOOD_NAMES {
        let put = put(stage, name, "");
        let taken = put.and_then(|(status, body)| {
            ensure!(status == 201, "{status} {body}");
            Ok(())
        });
        stage.check(&format!("4 PUT of {name}"), taken);
    }
    for (x_fleet, message) in REQUIREMENTS {
        let put = put(stage, "refused.service", x_fleet);
        stage.check(&format!("4 PUT with {x_fleet:?}"), put.and_then(|answer| refused(&answer, message)));
        let submitted = submit(stage, "refused.service", x_fleet, message);
        stage.check(&format!("4 submit with {x_fleet:?}"), submitted);
    }
    // Takes away what was put.
    stage.play("");
}

/// The status and body of a PUT.
fn put(stage: &Stage, name: &str, x_fleet: &str) -> Result<(u16, Value)> {
    let requirements = x_fleet.lines().filter_map(|line| line.split_once('='));
    let requirements = requirements.map(|(key, value)| json!({"section": "X-Fleet", "name": key, "value": value}));
    let mut options = vec![json!({"section": "Service", "name": "ExecStart", "value": "/bin/true"})];
    options.extend(requirements);
    let escaped = name.replace('%', "%25").replace(' ', "%20").replace('!', "%21").replace('\\', "%5C");
    let body = json!({ "options": options }).to_string();
    let answer =
        Connection::open(&stage.machines()[0])?.request("PUT", &format!("/fleet/v1/units/{escaped}"), &body)?;
    Ok((answer.status, serde_json::from_str(&answer.body).unwrap_or_default()))
}

fn refused((status, body): &(u16, Value), message: &str) -> Result<()> {
    // The reason was added.
    let expected = json!({"error": {"code": 400, "message": message, "reason": "invalid-unit"}});
    ensure!(*status == 400 && *body == expected, "--- expected\n400 {expected}\n--- got\n{status} {body}");
    Ok(())
}

fn submit(stage: &Stage, name: &str, x_fleet: &str, message: &str) -> Result<()> {
    let host = &stage.machines()[0];
    host.write(&format!("/root/{name}"), &format!("[Service]\nExecStart=/bin/true\n[X-Fleet]\n{x_fleet}\n"))?;
    let output = host.exec(&["sh", "-c", "cd /root && exec fleetctl submit \"$1\"", "sh", name])?;
    let (code, said) = (output.status.code(), String::from_utf8(output.stderr)?);
    let expected = format!("Error creating units: {message}\n");
    ensure!(
        code == Some(1) && said == expected && output.stdout.is_empty(),
        "--- expected\n[1] {expected}--- got\n{code:?} {said}"
    );
    Ok(())
}
