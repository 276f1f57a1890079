//! Which machine runs which unit, and why or why not.
