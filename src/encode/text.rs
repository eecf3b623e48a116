//! Prometheus' text format 0.0.4, <https://prometheus.io/docs/instrumenting/exposition_formats/>.

use super::{
    Selection, escape,
    number::Whole,
    samples::{Dialect, Samples},
};
use crate::snapshot::{FamilySnapshot, Snapshot};

pub(super) fn encode(snapshot: &Snapshot, selection: Selection<'_>, bytes: &mut Vec<u8>) {
    let mut samples = Samples::new(DIALECT, bytes);
    for family in selection.families(snapshot) {
        samples.write(family, describe, selection.series);
    }
    samples.finish();
}

const DIALECT: Dialect = Dialect {
    whole: Whole::Bare,
    created: false,
    any_sum: true,
};

/// The lines before a family's samples. They name a counter as its samples are named, with `_total`.
fn describe(family: &FamilySnapshot, into: &mut Vec<u8>) {
    let name = family.name().as_bytes();
    into.extend(b"# HELP ");
    into.extend(name);
    into.push(b' ');
    escape(family.help(), false, into);
    into.extend(b"\n# TYPE ");
    into.extend(name);
    into.push(b' ');
    into.extend(family.kind().prometheus().as_bytes());
    into.push(b'\n');
}
