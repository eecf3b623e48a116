//! From a request to a reply, for any web server: what the client accepts, which families it wants, and the bytes.

mod negotiate;
mod query;
#[cfg(feature = "serve")]
pub(crate) mod server;

use crate::{
    encode::{EncodeOptions, Format, Selection},
    registry::Registry,
    snapshot::{FamilySnapshot, SeriesSnapshot},
    sync::{AtomicUsize, Ordering},
};
use negotiate::{Encoding, Exposition};
use query::NameFilter;
use std::{fmt, sync::Arc};

/// What a client that scrapes has sent: the headers and the query that matter.
///
/// ```
/// # fn main() -> Result<(), tidegauge::RegisterError> {
/// use tidegauge::{Registry, ScrapeRequest};
///
/// let registry = Registry::new();
/// registry.counter("jobs_total", "Jobs run to their end.").register()?.inc();
/// registry.counter("errors_total", "Errors seen.").register()?;
///
/// let request = ScrapeRequest::new().accept("text/plain").query("name[]=jobs_total");
/// let reply = registry.scrape_with(&request);
/// assert_eq!(reply.content_type(), "text/plain; version=0.0.4; charset=utf-8");
/// let body = String::from_utf8(reply.into_body()).unwrap();
/// assert!(body.ends_with("# TYPE jobs_total counter\njobs_total 1\n"));
/// assert!(!body.contains("errors"));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct ScrapeRequest<'a> {
    accept: Option<&'a str>,
    accept_encoding: Option<&'a str>,
    query: Option<&'a str>,
    filter: Option<&'a Filter>,
    options: EncodeOptions,
}

impl<'a> ScrapeRequest<'a> {
    /// A request without headers and query: it gets everything as plain text.
    pub fn new() -> Self {
        Self::default()
    }

    /// The value of the `Accept` header. Several lines are one, joined by commas.
    pub fn accept(mut self, accept: impl Into<Option<&'a str>>) -> Self {
        self.accept = accept.into();
        self
    }

    /// The value of the `Accept-Encoding` header. Several lines are one, joined by commas.
    pub fn accept_encoding(mut self, accept_encoding: impl Into<Option<&'a str>>) -> Self {
        self.accept_encoding = accept_encoding.into();
        self
    }

    /// The query string, as it stands behind the `?`: each `name[]=` parameter asks for a family, by the name of the family
    /// or of one of its samples.
    pub fn query(mut self, query: impl Into<Option<&'a str>>) -> Self {
        self.query = query.into();
        self
    }

    /// Which families and series the endpoint shows at all.
    pub fn filter(mut self, filter: impl Into<Option<&'a Filter>>) -> Self {
        self.filter = filter.into();
        self
    }

    /// What the endpoint shows beyond the necessary; by default nothing.
    pub fn options(mut self, options: EncodeOptions) -> Self {
        self.options = options;
        self
    }
}

type FamilyPredicate = Arc<dyn Fn(&FamilySnapshot) -> bool + Send + Sync>;
type SeriesPredicate = Arc<dyn Fn(SeriesSnapshot<'_>) -> bool + Send + Sync>;

/// Which families and series an endpoint shows; by default all.
///
/// ```
/// # fn main() -> Result<(), tidegauge::RegisterError> {
/// use tidegauge::{Filter, Registry, ScrapeRequest};
///
/// let public = Filter::new()
///     .families(|family| family.name().starts_with("http_"))
///     .series(|series| series.label("route") != Some("/internal"));
///
/// let registry = Registry::new();
/// let requests = registry.counter("http_requests_total", "Requests by route.").labels(["route"]).register()?;
/// requests.with(["/"]).inc();
/// requests.with(["/internal"]).inc();
/// let reply = registry.scrape_with(&ScrapeRequest::new().filter(&public));
/// let body = String::from_utf8(reply.into_body()).unwrap();
/// assert!(body.contains("route=\"/\"") && !body.contains("internal"));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Default)]
pub struct Filter {
    families: Option<FamilyPredicate>,
    series: Option<SeriesPredicate>,
}

impl Filter {
    /// A filter that shows everything.
    pub fn new() -> Self {
        Self::default()
    }

    /// Shows only the families for which `show` says true.
    pub fn families(mut self, show: impl Fn(&FamilySnapshot) -> bool + Send + Sync + 'static) -> Self {
        self.families = Some(Arc::new(show));
        self
    }

    /// Shows only the series for which `show` says true, by their labels as a rule.
    pub fn series(mut self, show: impl Fn(SeriesSnapshot<'_>) -> bool + Send + Sync + 'static) -> Self {
        self.series = Some(Arc::new(show));
        self
    }

    pub(crate) fn shows_family(&self, family: &FamilySnapshot) -> bool {
        self.families.as_ref().is_none_or(|shows| shows(family))
    }

    /// Which series it shows; none where that is all.
    #[cfg(feature = "pushgateway")]
    pub(crate) fn of_series(&self) -> Option<&dyn Fn(SeriesSnapshot<'_>) -> bool> {
        self.series.as_deref().map(|shows| shows as _)
    }

    pub(crate) fn shows(&self, series: SeriesSnapshot<'_>) -> bool {
        self.series.as_ref().is_none_or(|shows| shows(series))
    }
}

impl fmt::Debug for Filter {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Filter")
            .field("families", &self.families.is_some())
            .field("series", &self.series.is_some())
            .finish()
    }
}

/// The reply to a scrape: a status, headers and a body, to be put into the response of any web server.
#[derive(Clone)]
pub struct Reply {
    content_type: &'static str,
    content_encoding: Option<&'static str>,
    body: Vec<u8>,
}

impl Reply {
    /// The status: always 200, because a registry that has something to hide or nothing to show is well all the same.
    pub fn status(&self) -> u16 {
        200
    }

    /// The value of the `Content-Type` header.
    pub fn content_type(&self) -> &'static str {
        self.content_type
    }

    /// The value of the `Content-Encoding` header; none where the body is not compressed.
    pub fn content_encoding(&self) -> Option<&'static str> {
        self.content_encoding
    }

    /// All headers that the response should have, beside its length: the two above and `Vary`, which tells caches that the
    /// reply depends on what the client accepts.
    pub fn headers(&self) -> impl Iterator<Item = (&'static str, &'static str)> + use<> {
        let encoding = self.content_encoding.map(|encoding| ("Content-Encoding", encoding));
        [("Content-Type", self.content_type), ("Vary", "Accept, Accept-Encoding")]
            .into_iter()
            .chain(encoding)
    }

    /// The body.
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// The body, to keep.
    pub fn into_body(self) -> Vec<u8> {
        self.body
    }
}

impl fmt::Debug for Reply {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Reply")
            .field("content_type", &self.content_type)
            .field("content_encoding", &self.content_encoding)
            .field("bytes", &self.body.len())
            .finish()
    }
}

impl Registry {
    /// Answers a scrape in the format and the encoding that the client prefers, given its `Accept` and `Accept-Encoding`
    /// headers: OpenMetrics 1.0 or, by default, the Prometheus text format 0.0.4; with gzip if it may be and the feature
    /// `gzip` is on.
    ///
    /// It never blocks a thread that records. With very many series it takes milliseconds, more with gzip: an async server
    /// had better call it where blocking is allowed.
    ///
    /// ```
    /// let reply = tidegauge::Registry::new().scrape("application/openmetrics-text; version=1.0.0", None);
    /// assert_eq!(reply.content_type(), "application/openmetrics-text; version=1.0.0; charset=utf-8");
    /// assert_eq!(reply.body(), b"# EOF\n");
    /// ```
    pub fn scrape<'a>(&self, accept: impl Into<Option<&'a str>>, accept_encoding: impl Into<Option<&'a str>>) -> Reply {
        self.scrape_with(&ScrapeRequest::new().accept(accept).accept_encoding(accept_encoding))
    }

    /// Answers a scrape; see [`scrape`](Registry::scrape).
    pub fn scrape_with(&self, request: &ScrapeRequest<'_>) -> Reply {
        // Near the size that the last body had: memory that is there at once need not be moved while it grows.
        static LAST: AtomicUsize = AtomicUsize::new(0);

        let exposition = negotiate::exposition(request.accept);
        let format = match exposition {
            Exposition::Text => Format::Text,
            Exposition::OpenMetrics => Format::OpenMetrics,
        };
        let names = request.query.and_then(NameFilter::from_query);
        let shown = request.filter.and_then(|filter| filter.families.as_deref());
        let families = |family: &FamilySnapshot| {
            names
                .as_ref()
                .is_none_or(|names| names.selects(&family.descriptor.name))
                && shown.is_none_or(|shown| shown(family))
        };
        let series = request.filter.and_then(|filter| filter.series.as_deref());
        let selection = Selection {
            families: (names.is_some() || shown.is_some()).then_some(&families),
            series: series.map(|series| series as &dyn Fn(SeriesSnapshot<'_>) -> bool),
        };
        let mut body = vec![0; LAST.load(Ordering::Relaxed)];
        self.snapshot()
            .encode_selected(format, request.options, selection, &mut body);
        LAST.store(body.len() + body.len() / 8, Ordering::Relaxed);
        let (content_encoding, body) = match negotiate::encoding(request.accept_encoding) {
            Encoding::Gzip if cfg!(feature = "gzip") => (Some("gzip"), gzip(&body)),
            _ => (None, body),
        };
        Reply {
            content_type: exposition.content_type(),
            content_encoding,
            body,
        }
    }
}

/// At the fastest level: it shrinks an exposition about tenfold, and higher ones take several times as long for little more.
#[cfg(feature = "gzip")]
fn gzip(body: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::with_capacity(body.len() / 8), flate2::Compression::fast());
    encoder
        .write_all(body)
        .and_then(|()| encoder.finish())
        .expect("writing to a vector does not fail")
}

#[cfg(not(feature = "gzip"))]
fn gzip(_: &[u8]) -> Vec<u8> {
    unreachable!("only called with the feature")
}
