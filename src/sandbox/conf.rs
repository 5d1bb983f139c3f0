//! The broker's settings: Pulsar's own `standalone.conf` with what a sandbox wants otherwise.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use nekton_engine::{Error, Result};

use super::security::{ADMIN, Security};
use super::{Options, Ports};

/// The log goes to one file that is rolled, so that it does not fill a disk.
const LOG: &str = r#"Configuration:
  status: ERROR
  name: nekton-sandbox
  Appenders:
    RollingFile:
      name: File
      fileName: "${sys:pulsar.log.dir}/broker.log"
      filePattern: "${sys:pulsar.log.dir}/broker-%i.log"
      immediateFlush: true
      PatternLayout:
        Pattern: "%d{ISO8601_OFFSET_DATE_TIME_HHMM} [%t] %-5level %logger{36} - %msg%n"
      Policies:
        SizeBasedTriggeringPolicy:
          size: 16 MB
      DefaultRolloverStrategy:
        max: 2
  Loggers:
    Root:
      level: info
      AppenderRef:
        - ref: File
"#;

/// Where the settings of a sandbox are.
#[derive(Clone, Debug)]
pub(super) struct Conf {
    /// The settings of the broker.
    pub(super) standalone: PathBuf,
    /// The settings of its log.
    pub(super) log: PathBuf,
}

/// The file with the broker's settings; it is named in the broker's command line, by which it is recognized.
pub(super) fn standalone(folder: &Path) -> PathBuf {
    folder.join("conf/standalone.conf")
}

/// Writes the settings into the sandbox's folder.
pub(super) fn write(options: &Options, pulsar: &Path, ports: &Ports, security: &Security) -> Result<Conf> {
    let own = options.folder.join("conf");
    let template = pulsar.join("conf/standalone.conf");
    let text = std::fs::read_to_string(&template)
        .map_err(|error| Error::io(format!("reading {}", template.display()), &error))?;
    let conf = Conf { standalone: standalone(&options.folder), log: own.join("log4j2.yaml") };
    let text = derived(&text, &settings(ports, security));
    // Readable by the owner alone: it has the broker's own token.
    super::security::write_secret(&conf.standalone, text.as_bytes())?;
    std::fs::write(&conf.log, LOG)
        .map_err(|error| Error::io(format!("writing {}", conf.log.display()), &error))?;
    Ok(conf)
}

type Settings = BTreeMap<&'static str, String>;

fn settings(ports: &Ports, security: &Security) -> Settings {
    let mut settings: Settings = [
        ("bindAddress", "127.0.0.1"),
        ("advertisedAddress", "127.0.0.1"),
        ("brokerDeduplicationEnabled", "true"),
        // By default a reader at the tail of a topic gets an entry up to 10 ms late.
        ("managedLedgerNewEntriesCheckDelayInMillis", "0"),
        ("journalSyncData", "false"),
        // What is published before anybody reads it stays, and so does an empty topic.
        ("defaultRetentionTimeInMinutes", "1440"),
        ("defaultRetentionSizeInMB", "4096"),
        ("brokerDeleteInactiveTopicsEnabled", "false"),
        ("diskUsageThreshold", "0.99"),
        ("diskUsageWarnThreshold", "0.98"),
    ]
    .map(|(key, value)| (key, value.to_owned()))
    .into();
    if let Some(interface) = loopback() {
        // Without it the bookie listens on all interfaces.
        settings.insert("listeningInterface", interface.to_owned());
    }
    settings.insert("webServicePort", ports.plain_admin().to_string());
    settings.insert("brokerServicePort", ports.plain.map_or(ports.broker, |plain| plain.broker).to_string());
    if let Some(tls) = security.tls() {
        settings.insert("webServicePortTls", ports.admin.to_string());
        settings.insert("brokerServicePortTls", ports.broker.to_string());
        settings.insert("tlsCertificateFilePath", tls.certificate.display().to_string());
        settings.insert("tlsKeyFilePath", tls.key.display().to_string());
    }
    if let (Some(key), Some(token)) = (security.token_key(), security.token_for(ADMIN)) {
        for (setting, value) in [
            ("authenticationEnabled", "true"),
            ("authorizationEnabled", "true"),
            ("superUserRoles", ADMIN),
            (
                "authenticationProviders",
                "org.apache.pulsar.broker.authentication.AuthenticationProviderToken",
            ),
            ("brokerClientAuthenticationPlugin", "org.apache.pulsar.client.impl.auth.AuthenticationToken"),
        ] {
            settings.insert(setting, value.to_owned());
        }
        settings.insert("tokenSecretKey", key.display().to_string());
        settings.insert("brokerClientAuthenticationParameters", format!("token:{token}"));
    }
    settings
}

/// The name of the loopback interface, where it is known.
fn loopback() -> Option<&'static str> {
    if cfg!(target_os = "linux") {
        Some("lo")
    } else if cfg!(any(target_os = "macos", target_os = "freebsd")) {
        Some("lo0")
    } else {
        None
    }
}

/// A file of Java properties with some of its settings replaced, or added at its end.
fn derived(template: &str, settings: &Settings) -> String {
    let mut text = String::with_capacity(template.len() + 4_096);
    for line in template.lines() {
        let key = line.split_once('=').map(|(key, _)| key.trim());
        if !key.is_some_and(|key| settings.contains_key(key)) {
            text.push_str(line);
            text.push('\n');
        }
    }
    text.push_str("\n### What the sandbox of nekton sets otherwise\n");
    for (key, value) in settings {
        text.push_str(key);
        text.push('=');
        escape(value, &mut text);
        text.push('\n');
    }
    text
}

/// Java reads properties as ISO 8859-1, with a backslash as escape and spaces skipped before a value.
fn escape(value: &str, into: &mut String) {
    for (index, c) in value.chars().enumerate() {
        match c {
            '\\' => into.push_str("\\\\"),
            ' ' if index == 0 => into.push_str("\\ "),
            ' '..='~' => into.push(c),
            _ => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    // Writing to a text cannot fail.
                    let _ = write!(into, "\\u{unit:04x}");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_replaced_once_and_all_others_kept() {
        let template = "# a comment\nwebServicePort=8080\nkept=1\n webServicePort = 9\n#webServicePort=7\n";
        let settings: Settings = [("webServicePort", "18080".to_owned()), ("added", "x".to_owned())].into();
        let text = derived(template, &settings);
        let lines: Vec<&str> =
            text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).collect();
        assert_eq!(lines, ["kept=1", "added=x", "webServicePort=18080"]);
    }

    #[test]
    fn a_path_in_any_language_survives() {
        let mut text = String::new();
        escape(" C:\\Größe 😀=x", &mut text);
        assert_eq!(text, "\\ C:\\\\Gr\\u00f6\\u00dfe \\ud83d\\ude00=x");
    }
}
