//! The comparison itself, at small size: that it measures everything it says. How fast anything is, is no test.

use clap::ValueEnum;
use fleet_bench::compare::{self, Options, Sizes, Subject};

#[test]
fn every_row_yields_a_figure_and_every_round_ends_as_it_should() {
    let subjects = Subject::value_variants().to_vec();
    let options = Options { sizes: Sizes::small(1), subjects, bin: None };
    let rows = compare::run(&options, &|row| eprintln!("{}", row.cells().join("  |  "))).unwrap();
    for row in &rows {
        assert!(row.is_whole(), "{row:?}");
    }
    // One unit 2; batches of two sizes, 6 and 13 each; one file 2; lists 2; idle with two sizes, 4 each; loss 2; cold start 2.
    assert_eq!(rows.len(), 2 + 2 * (6 + 13) + 2 + 2 + 2 * 4 + 2 + 2, "{rows:#?}");
}
