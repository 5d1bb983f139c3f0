//! The URLs of topics.

use std::fmt;

use nekton_engine::{Error, Result};

/// A topic's URL, taken apart: `pulsar://host:port[,host:port..]/tenant/namespace/topic`, or `pulsar+ssl://..`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TopicUrl {
    pub(super) tls: bool,
    /// One `host:port` or more.
    pub(super) brokers: Vec<String>,
    /// `tenant/namespace`.
    pub(super) namespace: String,
    pub(super) topic: String,
}

impl TopicUrl {
    pub(super) fn parse(url: &str) -> Result<Self> {
        let wrong = |why: &str| {
            Error::config(format!(
                "{url} is no URL of a topic on Pulsar: {why}. Write pulsar://HOST:PORT/TENANT/NAMESPACE/TOPIC"
            ))
        };
        let (scheme, rest) = url.split_once("://").ok_or_else(|| wrong("it has no scheme"))?;
        let (tls, port) = match scheme {
            "pulsar" => (false, 6650),
            "pulsar+ssl" => (true, 6651),
            _ => return Err(wrong("its scheme is not pulsar or pulsar+ssl")),
        };
        let (hosts, path) = rest.split_once('/').ok_or_else(|| wrong("it has no tenant"))?;
        let mut brokers = Vec::new();
        for host in hosts.split(',') {
            // A colon in brackets belongs to the address.
            let bare = host.rsplit_once(']').map_or(host, |(_, rest)| rest);
            match bare.split_once(':') {
                Some((_, port)) if port.parse::<u16>().is_ok_and(|port| port > 0) => {
                    brokers.push(host.to_owned())
                }
                Some((_, port)) => return Err(wrong(&format!("{port:?} is no port"))),
                None if host.is_empty() => return Err(wrong("it has no host")),
                None => brokers.push(format!("{host}:{port}")),
            }
        }
        let parts: Vec<&str> = path.split('/').collect();
        let [tenant, namespace, topic] = parts[..] else {
            return Err(wrong("behind the host it needs tenant, namespace and topic"));
        };
        let allowed = |part: &str| {
            !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || "-=:._".contains(c))
        };
        if let Some(part) = parts.iter().find(|part| !allowed(part)) {
            return Err(wrong(&format!("{part:?} is no name, which has letters, digits and -=:._")));
        }
        Ok(TopicUrl { tls, brokers, namespace: format!("{tenant}/{namespace}"), topic: topic.to_owned() })
    }

    /// The topic as the broker names it.
    pub(super) fn full(&self) -> String {
        format!("persistent://{}/{}", self.namespace, self.topic)
    }

    /// The service that knows where topics are.
    pub(super) fn service(&self) -> String {
        format!("{}://{}", if self.tls { "pulsar+ssl" } else { "pulsar" }, self.brokers.join(","))
    }
}

impl fmt::Display for TopicUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.service(), self.namespace, self.topic)
    }
}

/// Host and port of a broker's URL, as a lookup answers it.
pub(super) fn address(url: &str) -> Option<String> {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest).trim_end_matches('/');
    rest.contains(':').then(|| rest.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_taken_apart_and_put_together() {
        for url in
            ["pulsar://a:1/t/n/x", "pulsar+ssl://a:1,b:2/t/n/x.dead-letter", "pulsar://[::1]:6650/t/n/x"]
        {
            assert_eq!(TopicUrl::parse(url).unwrap().to_string(), url);
        }
        let url = TopicUrl::parse("pulsar+ssl://broker/t/n/x").unwrap();
        assert_eq!(
            (url.service().as_str(), url.full().as_str()),
            ("pulsar+ssl://broker:6651", "persistent://t/n/x")
        );
    }

    #[test]
    fn a_wrong_url_is_refused_with_the_reason() {
        for (url, reason) in [
            ("pulsar:/a", "no scheme"),
            ("http://a/b/c/d", "scheme is not"),
            ("pulsar://a:b/t/n/x", "\"b\" is no port"),
            ("pulsar://a:0/t/n/x", "no port"),
            ("pulsar:///t/n/x", "no host"),
            ("pulsar://a", "no tenant"),
            ("pulsar://a/t/x", "needs tenant, namespace and topic"),
            ("pulsar://a/t/n/x/y", "needs tenant, namespace and topic"),
            ("pulsar://a/t/n/x y", "\"x y\" is no name"),
        ] {
            let error = TopicUrl::parse(url).unwrap_err().to_string();
            assert!(error.contains(reason) && error.contains("Write pulsar://HOST"), "{url}: {error}");
        }
    }
}
