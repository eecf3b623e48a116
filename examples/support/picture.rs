//! What an example has measured, as a picture: panels one below the other, in SVG that is written by hand. It follows the
//! reader's preference for light or dark, and has a ground of its own where that is not known.

use std::{fmt::Write, fs, io, path::Path};

pub struct Picture {
    title: String,
    body: String,
    /// Where the next panel begins.
    y: f64,
}

/// One of some horizontal bars.
pub struct Bar {
    pub label: String,
    pub value: f64,
    /// What is written behind the bar.
    pub text: String,
    pub tone: Tone,
}

/// What something is drawn in.
#[derive(Clone, Copy, Debug)]
pub enum Tone {
    /// What one would rather not have.
    Plain,
    /// What the crate makes of it.
    Ours,
}

const WIDTH: f64 = 760.0;
const MARGIN: f64 = 20.0;
/// Where bars and columns begin, to the right of what says what they are.
const LEFT: f64 = 225.0;
/// The most that a bar takes, so that there is room for its text behind it.
const LONGEST_BAR: f64 = 320.0;
const LINE: f64 = 18.0;
const BAR: f64 = 16.0;
const BAR_PITCH: f64 = 24.0;
const COLUMNS_LEFT: f64 = 70.0;
const COLUMNS_HEIGHT: f64 = 110.0;

impl Picture {
    pub fn new(title: &str) -> Self {
        Picture {
            title: title.to_owned(),
            body: String::new(),
            y: MARGIN + 1.5 * LINE,
        }
    }

    /// Adds a panel of bars, all from 0 and by one measure.
    pub fn bars(&mut self, title: &str, bars: &[Bar]) {
        self.panel(title);
        let longest = bars.iter().map(|bar| bar.value).fold(f64::MIN_POSITIVE, f64::max);
        let top = self.y;
        for bar in bars {
            // What is there at all can be seen.
            let width = match bar.value > 0.0 {
                true => (bar.value / longest * LONGEST_BAR).max(1.0),
                false => 0.0,
            };
            let middle = self.y + BAR / 2.0 + 4.5;
            self.text(LEFT - 8.0, middle, "label end", &bar.label);
            let class = bar.tone.class();
            let y = self.y;
            self.line(format_args!(
                r#"<rect class="{class}" x="{LEFT}" y="{y:.1}" width="{width:.1}" height="{BAR}"/>"#
            ));
            self.text(LEFT + width + 8.0, middle, "label", &bar.text);
            self.y += BAR_PITCH;
        }
        let bottom = self.y - (BAR_PITCH - BAR) + 4.0;
        self.rule(LEFT, top - 4.0, LEFT, bottom);
    }

    /// Adds a panel of columns over time, each as wide as `bin` seconds. The axis goes up to `most`, so that panels can be compared.
    pub fn columns(&mut self, title: &str, note: &str, counts: &[u64], bin: f64, most: u64, tone: Tone) {
        self.panel(title);
        self.text(MARGIN, self.y + 2.0, "note", note);
        self.y += LINE / 2.0 + 2.0;
        let (top, bottom) = (self.y, self.y + COLUMNS_HEIGHT);
        let width = (WIDTH - MARGIN - COLUMNS_LEFT) / counts.len().max(1) as f64;
        let most = most.max(1) as f64;
        let mut path = String::new();
        for (at, count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            let height = (*count as f64 / most * COLUMNS_HEIGHT).max(0.5);
            let left = COLUMNS_LEFT + at as f64 * width;
            // Columns that touch would show the ground between them.
            let wide = (width * 0.9).max(1.0);
            write!(path, "M{left:.1} {bottom:.1}v-{height:.1}h{wide:.1}v{height:.1}z").expect("a string takes all");
        }
        let class = tone.class();
        self.line(format_args!(r#"<path class="{class}" d="{path}"/>"#));
        self.rule(COLUMNS_LEFT, top, COLUMNS_LEFT, bottom);
        self.rule(COLUMNS_LEFT, bottom, WIDTH - MARGIN, bottom);
        self.text(COLUMNS_LEFT - 6.0, top + 9.0, "note end", &thousands(most as u64));
        self.text(COLUMNS_LEFT - 6.0, bottom, "note end", "0");
        let seconds = counts.len() as f64 * bin;
        for quarter in 0..=4 {
            let at = f64::from(quarter) / 4.0;
            let x = COLUMNS_LEFT + at * (WIDTH - MARGIN - COLUMNS_LEFT);
            let class = if quarter == 4 { "note end" } else { "note" };
            let text = trimmed(seconds * at);
            let text = if quarter == 4 { format!("{text} s") } else { text };
            self.rule(x, bottom, x, bottom + 4.0);
            self.text(x, bottom + 17.0, class, &text);
        }
        self.y = bottom + 17.0 + LINE / 2.0;
    }

    /// Adds a line of text.
    pub fn caption(&mut self, text: &str) {
        self.text(MARGIN, self.y + LINE, "note", text);
        self.y += LINE;
    }

    pub fn save(self, path: &Path) -> io::Result<()> {
        fs::write(path, self.to_svg())
    }

    fn to_svg(&self) -> String {
        let height = self.y + MARGIN;
        let title = escaped(&self.title);
        let top = MARGIN + LINE / 2.0;
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height:.0}\" viewBox=\"0 0 {WIDTH} {height:.0}\" role=\"img\">\n\
             <title>{title}</title>\n{STYLE}\
             <rect class=\"ground\" width=\"100%\" height=\"100%\"/>\n\
             <text class=\"title\" x=\"{MARGIN}\" y=\"{top}\">{title}</text>\n{}</svg>\n",
            self.body
        )
    }

    fn panel(&mut self, title: &str) {
        self.y += LINE * 0.7;
        self.text(MARGIN, self.y + 4.0, "panel", title);
        self.y += LINE;
    }

    fn rule(&mut self, x1: f64, y1: f64, x2: f64, y2: f64) {
        self.line(format_args!(
            r#"<line x1="{x1:.1}" y1="{y1:.1}" x2="{x2:.1}" y2="{y2:.1}"/>"#
        ));
    }

    fn text(&mut self, x: f64, y: f64, class: &str, text: &str) {
        let text = escaped(text);
        self.line(format_args!(
            r#"<text class="{class}" x="{x:.1}" y="{y:.1}">{text}</text>"#
        ));
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        writeln!(self.body, "{line}").expect("a string takes all");
    }
}

impl Tone {
    fn class(self) -> &'static str {
        match self {
            Tone::Plain => "plain",
            Tone::Ours => "ours",
        }
    }
}

/// With a comma before every three digits.
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// With a digit behind the point, if that is not 0.
fn trimmed(number: f64) -> String {
    let text = format!("{number:.1}");
    text.strip_suffix(".0").map(str::to_owned).unwrap_or(text)
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

const STYLE: &str = "\
<style>
text { font: 13px system-ui, 'Segoe UI', Helvetica, Arial, sans-serif; fill: #1f2328 }
.title { font-size: 16px; font-weight: 600 }
.panel { font-weight: 600 }
.note { font-size: 12px; fill: #59636e }
.end { text-anchor: end }
.ground { fill: #ffffff }
.plain { fill: #c4651a }
.ours { fill: #0969da }
line { stroke: #818b98 }
@media (prefers-color-scheme: dark) {
  text { fill: #f0f6fc }
  .note { fill: #9198a1 }
  .ground { fill: #0d1117 }
  .plain { fill: #e58a45 }
  .ours { fill: #4493f8 }
}
</style>
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_as_long_as_their_values_and_texts_cannot_break_out() {
        let mut picture = Picture::new("a < b & c");
        let bar = |value| Bar {
            label: "<i>".to_owned(),
            value,
            text: "t".to_owned(),
            tone: Tone::Ours,
        };
        picture.bars("bars", &[bar(4.0), bar(1.0), bar(0.0), bar(1e-9)]);
        let svg = picture.to_svg();
        for width in ["320.0", "80.0", "0.0", "1.0"] {
            assert_eq!(svg.matches(&format!("width=\"{width}\"")).count(), 1, "{width}: {svg}");
        }
        assert!(svg.contains("a &lt; b &amp; c") && !svg.contains("<i>"), "{svg}");
    }

    #[test]
    fn columns_leave_out_what_is_empty() {
        let mut picture = Picture::new("columns");
        picture.columns("packets", "of each", &[0, 110, 0, 55], 0.1, 110, Tone::Plain);
        let svg = picture.to_svg();
        assert_eq!(
            (svg.matches("v-110.0").count(), svg.matches("v-55.0").count()),
            (1, 1),
            "{svg}"
        );
        assert_eq!(svg.matches('M').count(), 2, "{svg}");
    }

    #[test]
    fn thousands_are_apart() {
        for (number, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (1234567, "1,234,567")] {
            assert_eq!(thousands(number), text);
        }
    }
}
