//! What is to be known of a unit that is not as it should be, in words.

/// What keeps a unit from being as it should, and what is to be known of it though nothing is in the way.
#[derive(Clone, Debug, Default)]
pub(super) struct Trouble {
    /// What keeps it from being as it should.
    problem: Option<Box<str>>,
    /// What the log was last told of that.
    logged: Option<Box<str>>,
    /// The condition that kept it from its last start.
    condition: Option<Box<str>>,
    /// Why it failed.
    failure: Option<Box<str>>,
    /// It has an alias less, because another unit has it.
    dispute: Option<Box<str>>,
}

impl Trouble {
    /// Something keeps the unit from being as it should. Returns whether the log has not been told of that last.
    pub fn has_problem(&mut self, problem: &str) -> bool {
        set(&mut self.problem, problem);
        set(&mut self.logged, problem)
    }

    /// Nothing that is known keeps it; whether it is as it should be is not known yet.
    pub fn may_be_over(&mut self) {
        self.problem = None;
    }

    /// It is as it should be, or is to be otherwise than before: whatever comes next is new.
    pub fn is_over(&mut self) {
        (self.problem, self.logged) = (None, None);
    }

    /// A condition kept it from its start. Returns whether that is new.
    pub fn was_skipped(&mut self, condition: &str) -> bool {
        set(&mut self.condition, condition)
    }

    /// It runs, or is about to be started.
    pub fn not_skipped(&mut self) {
        self.condition = None;
    }

    /// It failed, for this reason.
    pub fn has_failed(&mut self, why: &str) {
        set(&mut self.failure, why);
    }

    /// It has not failed any more, or is about to be started.
    pub fn not_failed(&mut self) {
        self.failure = None;
    }

    /// Another unit has a name that it asks for. Returns whether that is new.
    pub fn is_disputed(&mut self, dispute: &str) -> bool {
        set(&mut self.dispute, dispute)
    }

    /// It has all names that it asks for.
    pub fn not_disputed(&mut self) {
        self.dispute = None;
    }

    /// Forgets all but the problem.
    pub fn forget_notices(&mut self) {
        (self.condition, self.failure, self.dispute) = (None, None, None);
    }

    pub fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }

    pub fn condition(&self) -> Option<&str> {
        self.condition.as_deref()
    }

    pub fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }

    pub fn dispute(&self) -> Option<&str> {
        self.dispute.as_deref()
    }

    /// What is to be known though nothing is in the way: the nearest cause first.
    pub fn notice(&self) -> Option<&str> {
        self.condition().or(self.failure()).or(self.dispute())
    }
}

/// Returns whether this was another text before.
fn set(text: &mut Option<Box<str>>, new: &str) -> bool {
    let is_new = text.as_deref() != Some(new);
    if is_new {
        *text = Some(new.into());
    }
    is_new
}
