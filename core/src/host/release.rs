//! When a unit that the engine has recalled counts as given up, so that it may run elsewhere.

use super::runtime::Runtime;

/// Whether it does. One that is down and not wanted is not started again. While systemd does not answer, or a start is
/// under way, it may run without having been seen.
pub(super) fn is_released(is_installed: bool, runtime: &Runtime, is_starting: bool, answers: bool) -> bool {
    !is_installed || answers && !is_starting && runtime.is_down()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::runtime::{Active, Job};

    #[test]
    fn a_unit_is_given_up_when_it_is_down_for_certain() {
        let runtime = |active, job| Runtime { active, job, ..Runtime::default() };
        for (case, is_installed, runtime, is_starting, answers, expected) in [
            ("gone", false, runtime(Active::Inactive, None), false, true, true),
            ("gone, and systemd is silent", false, runtime(Active::Inactive, None), false, false, true),
            ("down", true, runtime(Active::Inactive, None), false, true, true),
            ("failed", true, runtime(Active::Failed, None), false, true, true),
            ("running", true, runtime(Active::Active, None), false, true, false),
            ("going down", true, runtime(Active::Deactivating, Some(Job::Stop)), false, true, false),
            ("down, with a job", true, runtime(Active::Inactive, Some(Job::Start)), false, true, false),
            ("down, and a start is under way", true, runtime(Active::Inactive, None), true, true, false),
            ("down when systemd was last heard", true, runtime(Active::Inactive, None), false, false, false),
        ] {
            assert_eq!(is_released(is_installed, &runtime, is_starting, answers), expected, "{case}");
        }
    }
}
