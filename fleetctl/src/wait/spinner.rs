//! What a person sees while a command waits.

use std::{
    io::{IsTerminal, stderr},
    time::Duration,
};

use indicatif::ProgressBar;

use super::progress::Goal;

/// `3/10 units active`, on stderr while a person looks at it.
pub struct Spinner {
    bar: ProgressBar,
    total: usize,
    goal: Goal,
}

impl Spinner {
    /// Of so many units that are to reach a goal.
    pub fn new(total: usize, goal: Goal) -> Self {
        let bar = if stderr().is_terminal() { ProgressBar::new_spinner() } else { ProgressBar::hidden() };
        let spinner = Self { bar, total, goal };
        spinner.reached(total);
        if !spinner.bar.is_hidden() {
            spinner.bar.enable_steady_tick(Duration::from_millis(100));
        }
        spinner
    }

    /// Shows how many have not reached it.
    pub fn reached(&self, pending: usize) {
        let (reached, total) = (self.total - pending, self.total);
        let units = if total == 1 { "unit" } else { "units" };
        self.bar.set_message(format!("{reached}/{total} {units} {}", self.goal.reached()));
    }

    /// Lets other words through without mixing them with the spinner's.
    pub fn aside<T>(&self, say: impl FnOnce() -> T) -> T {
        self.bar.suspend(say)
    }
}

impl Drop for Spinner {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
