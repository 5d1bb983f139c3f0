//! What only the broker's administration interface can do: create partitioned topics, and name subscriptions.
//!
//! Paths and answers as in "Pulsar admin REST API", <https://pulsar.apache.org/admin-rest-api/>.

use std::time::Duration;

use nekton_engine::{Error, Kind, Result};

use super::PulsarSettings;
use super::topic::TopicUrl;

type Response = ureq::http::Response<ureq::Body>;

/// How often an answer may send on to another broker.
const REDIRECTS: usize = 5;

pub(super) struct Admin {
    url: String,
    agent: ureq::Agent,
    token: Option<String>,
}

impl Admin {
    pub(super) fn new(topic: &TopicUrl, settings: &PulsarSettings) -> Result<Self> {
        let url = settings.admin_url.clone().unwrap_or_else(|| {
            let broker = topic.brokers.first().map(String::as_str).unwrap_or_default();
            let host = broker.rsplit_once(':').map_or(broker, |(host, _)| host);
            if topic.tls { format!("https://{host}:8443") } else { format!("http://{host}:8080") }
        });
        let mut tls = ureq::tls::TlsConfig::builder();
        if let Some(path) = &settings.ca_file {
            let pem = std::fs::read(path)
                .map_err(|error| Error::io(format!("--pulsar-ca {}", path.display()), &error))?;
            let mut certificates = Vec::new();
            for item in ureq::tls::parse_pem(&pem) {
                if let Ok(ureq::tls::PemItem::Certificate(certificate)) = item {
                    certificates.push(certificate);
                }
            }
            tls = tls.root_certs(ureq::tls::RootCerts::from(certificates));
        }
        let agent = ureq::Agent::config_builder()
            .tls_config(tls.build())
            .timeout_global(Some(Duration::from_secs(30)))
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .build()
            .new_agent();
        Ok(Admin { url: url.trim_end_matches('/').to_owned(), agent, token: settings.token.clone() })
    }

    fn path(&self, topic: &TopicUrl, rest: &str) -> String {
        format!("{}/admin/v2/persistent/{}/{}/{rest}", self.url, topic.namespace, topic.topic)
    }

    fn unreachable(&self, what: &str, error: &ureq::Error) -> Error {
        Error::new(
            Kind::Unavailable,
            format!(
                "{what}: the broker's administration at {} cannot be reached ({error}); name it with --pulsar-admin",
                self.url
            ),
        )
    }

    /// Gets, or puts a body of JSON. A broker may send on to the one that serves the topic, which wants the
    /// token as well.
    fn ask(&self, what: &str, mut url: String, body: Option<String>) -> Result<Response> {
        for _ in 0..REDIRECTS {
            let token = self.token.as_ref().map(|token| format!("Bearer {token}"));
            let answer = match &body {
                Some(body) => {
                    let mut request = self.agent.put(&url).header("content-type", "application/json");
                    if let Some(token) = token {
                        request = request.header("authorization", token);
                    }
                    request.send(body)
                }
                None => {
                    let mut request = self.agent.get(&url);
                    if let Some(token) = token {
                        request = request.header("authorization", token);
                    }
                    request.call()
                }
            };
            let answer = answer.map_err(|error| self.unreachable(what, &error))?;
            let to = answer.headers().get("location").and_then(|to| to.to_str().ok()).map(str::to_owned);
            match to.filter(|to| answer.status().is_redirection() && to.starts_with("http")) {
                Some(to) => url = to,
                None => return Ok(answer),
            }
        }
        Err(Error::new(Kind::Unavailable, format!("{what}: sent from broker to broker {REDIRECTS} times")))
    }

    /// Creates a topic of `partitions` partitions. That it exists already is no error.
    pub(super) fn create(&self, topic: &TopicUrl, partitions: u32) -> Result<()> {
        let what = format!("creating {topic} with {partitions} partitions");
        let mut answer = self.ask(&what, self.path(topic, "partitions"), Some(partitions.to_string()))?;
        match answer.status().as_u16() {
            200..=299 | 409 => Ok(()),
            code => Err(self.refused(&what, code, &mut answer)),
        }
    }

    /// The names of a partition's subscriptions.
    pub(super) fn subscriptions(&self, topic: &TopicUrl, partition: Option<u32>) -> Result<Vec<String>> {
        let what = format!("listing the subscriptions of {topic}");
        let mut topic = topic.clone();
        if let Some(partition) = partition {
            topic.topic = format!("{}-partition-{partition}", topic.topic);
        }
        let mut answer = self.ask(&what, self.path(&topic, "subscriptions"), None)?;
        match answer.status().as_u16() {
            200..=299 => {
                let text =
                    answer.body_mut().read_to_string().map_err(|error| self.unreachable(&what, &error))?;
                serde_json::from_str(&text).map_err(|error| {
                    Error::new(Kind::Unavailable, format!("{what}: unreadable answer ({error})"))
                })
            }
            404 => Ok(Vec::new()),
            code => Err(self.refused(&what, code, &mut answer)),
        }
    }

    fn refused(&self, what: &str, code: u16, answer: &mut Response) -> Error {
        let said = answer.body_mut().read_to_string().unwrap_or_default();
        let reason = serde_json::from_str::<serde_json::Value>(&said)
            .ok()
            .and_then(|v| Some(v["reason"].as_str()?.to_owned()));
        let reason = reason.unwrap_or_else(|| said.chars().take(200).collect());
        let (kind, hint) = match code {
            401 | 403 => {
                (Kind::Denied, ". Check --pulsar-token and what it grants, or create the topic beforehand")
            }
            404 => (Kind::Missing, ". Create the tenant and namespace, or correct the URL"),
            _ => (Kind::Unavailable, ""),
        };
        Error::new(kind, format!("{what}: {} answered {code} ({}){hint}", self.url, reason.trim()))
    }
}
