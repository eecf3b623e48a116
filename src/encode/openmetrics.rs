//! OpenMetrics text 1.0, <https://prometheus.io/docs/specs/om/open_metrics_spec/>.

use super::{
    EncodeOptions, Selection, escape,
    number::Whole,
    samples::{Dialect, Samples},
};
use crate::snapshot::{FamilySnapshot, Snapshot};

pub(super) fn encode(snapshot: &Snapshot, options: EncodeOptions, selection: Selection<'_>, bytes: &mut Vec<u8>) {
    let dialect = Dialect {
        whole: Whole::Pointed,
        created: options.created,
        any_sum: false,
    };
    let mut samples = Samples::new(dialect, bytes);
    for family in selection.families(snapshot) {
        samples.write(family, describe, selection.series);
    }
    samples.push(b"# EOF\n");
    samples.finish();
}

/// The lines before a family's samples. They name the family, without a counter's `_total`.
fn describe(family: &FamilySnapshot, into: &mut Vec<u8>) {
    let name = family.family_name().as_bytes();
    into.extend(b"# TYPE ");
    into.extend(name);
    into.push(b' ');
    into.extend(family.kind().prometheus().as_bytes());
    if let Some(unit) = family.descriptor.name.unit_line() {
        into.extend(b"\n# UNIT ");
        into.extend(name);
        into.push(b' ');
        into.extend(unit.as_bytes());
    }
    into.extend(b"\n# HELP ");
    into.extend(name);
    into.push(b' ');
    escape(family.help(), true, into);
    into.push(b'\n');
}
