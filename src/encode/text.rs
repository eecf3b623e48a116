//! Prometheus' text format 0.0.4, <https://prometheus.io/docs/instrumenting/exposition_formats/>.

use super::{
    Selection, escape,
    number::Whole,
    samples::{Dialect, Samples, Shows},
};
use crate::snapshot::{FamilySnapshot, Snapshot};

pub(super) fn encode(snapshot: &Snapshot, selection: Selection<'_>, bytes: &mut Vec<u8>) {
    let mut text = Text::new(bytes);
    for family in selection.families(snapshot) {
        text.write(family, selection.series);
    }
    text.finish();
}

/// Writes families as they come, into a buffer whose content is overwritten.
pub(crate) struct Text<'a>(Samples<'a>);

impl<'a> Text<'a> {
    pub(crate) fn new(bytes: &'a mut Vec<u8>) -> Self {
        Text(Samples::new(DIALECT, bytes))
    }

    /// Writes a family and those of its series that are to be shown. Nothing if there are none.
    pub(crate) fn write(&mut self, family: &FamilySnapshot, shows: Option<Shows<'_>>) {
        self.0.write(family, describe, shows);
    }

    pub(crate) fn finish(self) {
        self.0.finish();
    }
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
