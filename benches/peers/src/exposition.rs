//! Reads back what a library wrote, to be sure that it did the work it is measured at.

/// Name of the counter family in every registry.
pub const COUNTER: &str = "http_requests_total";

/// Name of the histogram family in every registry.
pub const HISTOGRAM: &str = "http_request_duration_seconds";

/// Number of sample lines.
pub fn samples(text: &str) -> usize {
    lines(text).count()
}

/// Sum of the values of every sample with this name.
pub fn sum(text: &str, name: &str) -> f64 {
    lines(text)
        .filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])))
        .map(|line| {
            let value = line.rsplit(' ').next().unwrap_or_default();
            value
                .parse::<f64>()
                .unwrap_or_else(|_| panic!("no value at the end of {line:?}"))
        })
        .sum()
}

fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_samples_of_the_name_are_summed() {
        let text = "# TYPE a counter\na{x=\"y z\"} 2\na{x=\"w\"} 3.5\n\nab 7\na 1\n# EOF\n";
        assert_eq!(samples(text), 4);
        assert_eq!(sum(text, "a"), 6.5);
    }
}
