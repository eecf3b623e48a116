//! What each path answers and to whom. Everything but the metrics is ready here; those are rendered elsewhere.

use super::auth::Credentials;
use super::request::{Method, Request};
use super::response::Response;

/// The paths of one server and who may read them.
pub(crate) struct Site {
    metrics_path: String,
    credentials: Credentials,
    landing_page: String,
}

/// What to do about a request.
pub(crate) enum Answer {
    Ready(Response),
    Scrape,
}

/// Always open, so that an orchestrator needs no secret to see that the process lives.
pub(crate) const HEALTH_PATH: &str = "/-/healthy";

/// Seconds after which a refused scrape is worth another try.
pub(crate) const RETRY_AFTER: &str = "1";

enum Route {
    Metrics,
    Health,
    Landing,
}

impl Site {
    /// The error is the rule that the path breaks.
    pub(crate) fn new(metrics_path: &str, credentials: Credentials) -> Result<Site, String> {
        let plain = |byte: u8| byte.is_ascii_graphic() && byte != b'?' && byte != b'#';
        if !metrics_path.starts_with('/') || !metrics_path.bytes().all(plain) {
            return Err(format!(
                "the path {metrics_path:?} is not a slash followed by visible ASCII without '?' and '#', \
                 as in \"/metrics\""
            ));
        }
        if metrics_path == HEALTH_PATH {
            return Err(format!(
                "the path {HEALTH_PATH:?} answers health checks; choose another, as in \"/metrics\""
            ));
        }
        Ok(Site {
            metrics_path: metrics_path.to_owned(),
            credentials,
            landing_page: landing_page(metrics_path),
        })
    }

    pub(crate) fn metrics_path(&self) -> &str {
        &self.metrics_path
    }

    pub(crate) fn answer(&self, request: &Request) -> Answer {
        let Some(route) = self.route(&request.path) else {
            return Answer::Ready(Response::text(404, "nothing is served under this path"));
        };
        let open = matches!(route, Route::Health);
        if !open && !self.credentials.admit(request.authorization.as_deref()) {
            return Answer::Ready(self.unauthorized());
        }
        if request.method == Method::Other {
            return Answer::Ready(method_not_allowed());
        }
        match route {
            Route::Metrics => Answer::Scrape,
            Route::Health => Answer::Ready(Response::text(200, "healthy")),
            Route::Landing => Answer::Ready(
                Response::new(200, "text/html; charset=utf-8", self.landing_page.as_str())
                    .with("Content-Security-Policy", "default-src 'none'"),
            ),
        }
    }

    fn route(&self, path: &str) -> Option<Route> {
        if path == self.metrics_path {
            Some(Route::Metrics)
        } else if path == HEALTH_PATH {
            Some(Route::Health)
        } else if path == "/" || path == "*" {
            Some(Route::Landing)
        } else {
            None
        }
    }

    fn unauthorized(&self) -> Response {
        let response = Response::text(401, "this endpoint requires authorization");
        self.credentials.challenges().fold(response, |response, challenge| {
            response.with("WWW-Authenticate", challenge)
        })
    }
}

/// The metrics are being rendered for as many others as the server is willing to keep waiting.
pub(crate) fn busy() -> Response {
    Response::text(503, "too many scrapes at once, try again").with("Retry-After", RETRY_AFTER)
}

/// The metrics did not get rendered in time.
pub(crate) fn overdue() -> Response {
    Response::text(503, "rendering the metrics takes too long, try again").with("Retry-After", RETRY_AFTER)
}

/// The application's own code failed while it was asked for its metrics.
pub(crate) fn panicked() -> Response {
    Response::text(
        500,
        "rendering the metrics panicked; the process's standard error says where",
    )
}

fn method_not_allowed() -> Response {
    Response::text(405, "only GET and HEAD are answered").with("Allow", "GET, HEAD")
}

fn landing_page(metrics_path: &str) -> String {
    let link = metrics_path
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;");
    // A path of two slashes would be read as a host's name.
    let target = link
        .strip_prefix("//")
        .map_or(link.clone(), |rest| format!("/.//{rest}"));
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\"><title>Metrics</title></head>\n\
         <body>\n<h1>Metrics</h1>\n<p><a href=\"{target}\">{link}</a></p>\n</body>\n</html>\n"
    )
}

#[cfg(test)]
mod tests {
    use super::super::limits::Limits;
    use super::super::request::{Parsed, parse};
    use super::*;

    fn site(path: &str) -> Site {
        Site::new(path, Credentials::default()).unwrap()
    }

    fn ask(site: &Site, method: &str, path: &str, header: &str) -> Result<Response, &'static str> {
        let text = format!("{method} {path} HTTP/1.1\r\nHost: a\r\n{header}\r\n\r\n");
        match parse(text.as_bytes(), &Limits::default()) {
            Parsed::Complete(request, _) => match site.answer(&request) {
                Answer::Ready(response) => Ok(response),
                Answer::Scrape => Err("scrape"),
            },
            _ => panic!("not a request: {text:?}"),
        }
    }

    fn header<'response>(response: &'response Response, name: &str) -> Vec<&'response str> {
        let same = response.headers.iter().filter(|(given, _)| *given == name);
        same.map(|(_, value)| value.as_str()).collect()
    }

    #[test]
    fn each_path_answers_get_and_head() {
        let site = site("/metrics");
        for method in ["GET", "HEAD"] {
            assert!(ask(&site, method, "/metrics?name[]=a", "X: y").is_err());
            assert_eq!(ask(&site, method, "/-/healthy", "X: y").unwrap().status, 200);
            let landing = ask(&site, method, "/", "X: y").unwrap();
            assert!(String::from_utf8(landing.body).unwrap().contains("href=\"/metrics\""));
            assert_eq!(ask(&site, method, "/metrics/", "X: y").unwrap().status, 404);
            assert_eq!(ask(&site, method, "/METRICS", "X: y").unwrap().status, 404);
        }
    }

    #[test]
    fn other_methods_are_told_which_are_allowed() {
        for method in ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "get", "M-SEARCH"] {
            for path in ["/metrics", "/-/healthy", "/"] {
                let response = ask(&site("/metrics"), method, path, "X: y").unwrap();
                assert_eq!(response.status, 405);
                assert_eq!(header(&response, "Allow"), ["GET, HEAD"]);
            }
            assert_eq!(ask(&site("/metrics"), method, "/else", "X: y").unwrap().status, 404);
        }
        assert_eq!(ask(&site("/metrics"), "OPTIONS", "*", "X: y").unwrap().status, 405);
    }

    #[test]
    fn health_needs_no_authorization_and_the_rest_does() {
        let mut credentials = Credentials::default();
        credentials.add_bearer("secret").unwrap();
        credentials.add_basic("a", "b").unwrap();
        let site = Site::new("/metrics", credentials).unwrap();
        assert_eq!(ask(&site, "GET", "/-/healthy", "X: y").unwrap().status, 200);
        for path in ["/", "/metrics"] {
            let response = ask(&site, "GET", path, "Authorization: Bearer wrong").unwrap();
            assert_eq!(response.status, 401);
            assert_eq!(header(&response, "WWW-Authenticate").len(), 2);
            assert_eq!(ask(&site, "POST", path, "X: y").unwrap().status, 401);
        }
        assert!(ask(&site, "GET", "/metrics", "Authorization: Bearer secret").is_err());
    }

    #[test]
    fn the_path_can_be_chosen_within_rules() {
        assert!(ask(&site("/a/b"), "GET", "/a/b", "X: y").is_err());
        assert!(ask(&site("/"), "GET", "/", "X: y").is_err());
        for path in ["", "metrics", "/a?b", "/a#b", "/a b", "/\u{e4}", "/-/healthy"] {
            assert!(Site::new(path, Credentials::default()).is_err(), "{path}");
        }
        assert!(landing_page("/\"><script>").contains("href=\"/&quot;&gt;&lt;script&gt;\""));
        assert!(landing_page("//evil").contains("href=\"/.//evil\""));
    }
}
