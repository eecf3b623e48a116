//! What the environment says of a process that writes EMF, under the names that AWS' own client libraries give it
//! (<https://github.com/awslabs/aws-embedded-metrics-node>), and Lambda's variables
//! (<https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html#configuration-envvars-runtime>).

use crate::destination::variables::Variables;
use std::ffi::OsString;

/// What the variables say.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Environment {
    pub(super) namespace: Option<String>,
    pub(super) properties: Vec<(String, String)>,
    /// What is wrong with variables, each a sentence.
    pub(super) problems: Vec<String>,
}

impl Environment {
    /// Reads all variables that are heard.
    pub(super) fn read(look_up: &dyn Fn(&str) -> Option<OsString>) -> Self {
        let mut variables = Variables::new(look_up);
        let namespace = variables.text("AWS_EMF_NAMESPACE");
        // The region alone says nothing of a process that runs elsewhere.
        let is_lambda = variables.text(FUNCTION).is_some();
        let of_lambda = PROPERTIES.iter().filter(|_| is_lambda);
        let properties = of_lambda
            .filter_map(|(variable, property)| Some(((*property).to_owned(), variables.text(variable)?)))
            .collect();
        Environment {
            namespace,
            properties,
            problems: variables.into_problems(),
        }
    }
}

const FUNCTION: &str = "AWS_LAMBDA_FUNCTION_NAME";

/// Variables and the properties that they are.
const PROPERTIES: [(&str, &str); 6] = [
    (FUNCTION, "functionName"),
    ("AWS_LAMBDA_FUNCTION_VERSION", "functionVersion"),
    ("AWS_EXECUTION_ENV", "executionEnvironment"),
    ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "memorySize"),
    ("AWS_REGION", "region"),
    ("AWS_LAMBDA_LOG_STREAM_NAME", "logStreamId"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::destination::variables::environment;

    fn read(variables: &[(&str, &str)]) -> Environment {
        Environment::read(&environment(variables))
    }

    #[test]
    fn a_function_says_what_it_is() {
        let stream = "2026/11/21/[$LATEST]0123";
        let environment = read(&[
            ("AWS_LAMBDA_LOG_STREAM_NAME", stream),
            ("AWS_REGION", " eu-central-1 "),
            ("AWS_LAMBDA_FUNCTION_NAME", "orders"),
            ("AWS_LAMBDA_FUNCTION_VERSION", ""),
            ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128"),
            ("AWS_EXECUTION_ENV", "AWS_Lambda_provided.al2023"),
            ("AWS_EMF_NAMESPACE", "Shop"),
        ]);
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(environment.namespace.as_deref(), Some("Shop"));
        assert_eq!(
            environment.properties,
            [
                pair("functionName", "orders"),
                pair("executionEnvironment", "AWS_Lambda_provided.al2023"),
                pair("memorySize", "128"),
                pair("region", "eu-central-1"),
                pair("logStreamId", stream)
            ]
        );
    }

    #[test]
    fn what_is_no_function_has_no_properties() {
        let environment = read(&[("AWS_REGION", "eu-central-1"), ("AWS_LAMBDA_FUNCTION_NAME", "  ")]);
        assert_eq!(environment, Environment::default());
    }

    #[cfg(unix)]
    #[test]
    fn what_is_not_text_is_named() {
        use std::os::unix::ffi::OsStringExt;
        let look_up = |name: &str| (name == "AWS_EMF_NAMESPACE").then(|| OsString::from_vec(vec![0xff]));
        let environment = Environment::read(&look_up);
        assert_eq!(environment.namespace, None);
        assert!(environment.problems[0].starts_with("AWS_EMF_NAMESPACE is not UTF-8"));
    }
}
