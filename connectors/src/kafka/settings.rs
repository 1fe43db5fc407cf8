//! How a client of Kafka reaches its brokers. What is secret in it is never shown.

use std::collections::BTreeMap;
use std::fmt;

use thiserror::Error;

/// The setting with the brokers' addresses.
const BROKERS: &str = "bootstrap.servers";
/// What in the name of a setting says that its value is nobody's business.
const SECRET: [&str; 9] =
    ["password", "secret", "key", "token", "jaas", "oauthbearer", "username", "pem", "pass"];

/// The settings of a client, named as librdkafka names them.
///
/// Neither a job's graph nor a message shows their values: who prints one sees names, and the
/// addresses of the brokers.
#[derive(Clone, PartialEq, Eq)]
pub struct ClientSettings {
    values: BTreeMap<String, String>,
}

/// A setting that the connector itself decides on.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`{name}` cannot be set: {why}")]
pub struct SettingError {
    /// The setting.
    pub name: String,
    /// Who decides on it, and why.
    pub why: &'static str,
}

impl ClientSettings {
    /// A client of the cluster that knows these brokers, as `host:port,host:port`.
    pub fn new(brokers: impl Into<String>) -> Self {
        Self { values: BTreeMap::from([(BROKERS.to_owned(), brokers.into())]) }
    }

    /// Sets what librdkafka calls `name`; the last value counts.
    pub fn set(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.values.insert(name.into(), value.into());
    }

    /// Sets what librdkafka calls `name` unless it is set.
    pub fn set_default(&mut self, name: &str, value: impl Into<String>) {
        self.values.entry(name.to_owned()).or_insert_with(|| value.into());
    }

    /// A setting.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }

    /// The addresses of the brokers.
    #[must_use]
    pub fn brokers(&self) -> &str {
        self.get(BROKERS).unwrap_or_default()
    }

    /// All settings, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.values.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Refuses settings that are the connector's own, each with the reason.
    ///
    /// # Errors
    /// The first of them that is set.
    pub fn refuse(&self, own: &[(&str, &'static str)]) -> Result<(), SettingError> {
        match own.iter().find(|(name, _)| self.values.contains_key(*name)) {
            None => Ok(()),
            Some(&(name, why)) => Err(SettingError { name: name.to_owned(), why }),
        }
    }

    /// True if a message may quote what a client says of this setting.
    #[must_use]
    pub fn may_be_shown(name: &str) -> bool {
        let name = name.to_ascii_lowercase();
        !SECRET.iter().any(|secret| name.contains(secret))
    }
}

impl fmt::Debug for ClientSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown =
            self.iter().map(|(name, value)| (name, if name == BROKERS { value } else { "…" }));
        f.debug_map().entries(shown).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_secret_is_not_shown() {
        let mut settings = ClientSettings::new("one:9092");
        settings.set("sasl.password", "hunter2");
        settings.set("sasl.pasword", "hunter2");
        settings.set_default("sasl.password", "x");
        assert_eq!(settings.get("sasl.password"), Some("hunter2"));
        let shown = format!("{settings:?}");
        assert!(shown.contains("sasl.password") && shown.contains("one:9092"), "{shown}");
        assert!(!shown.contains("hunter2"), "{shown}");
        for name in ["SASL.Password", "ssl.key.pem", "sasl.oauthbearer.config", "sasl.username"] {
            assert!(!ClientSettings::may_be_shown(name), "{name}");
        }
        assert!(ClientSettings::may_be_shown("fetch.min.bytes"));
    }

    #[test]
    fn settings_of_the_connector_are_refused() {
        let mut settings = ClientSettings::new("one:9092");
        settings.set("enable.auto.commit", "true");
        let own = [("group.id", "x"), ("enable.auto.commit", "positions are Gear's")];
        let error = settings.refuse(&own).unwrap_err();
        assert_eq!(error.to_string(), "`enable.auto.commit` cannot be set: positions are Gear's");
    }
}
