//! What Hadoop's configuration says of the HDFS of a URL: which name nodes it has, or why that is
//! not known.
//!
//! The client reads the configuration by itself, and says neither: a name node whose machine has
//! gone silent is only left by a client that was told to ask another one first.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};

const SCHEME: &str = "hdfs://";
/// Those that the client reads; of two values the later one counts.
const FILES: [&str; 2] = ["core-site.xml", "hdfs-site.xml"];
const DEFAULT_HDFS: &str = "fs.defaultFS";
const SERVICES: &str = "dfs.ha.namenodes.";
const ADDRESS: &str = "dfs.namenode.rpc-address.";
const RANDOM_ORDER: &str = "dfs.client.failover.random.order.";

/// A property and its value.
pub(crate) type Property = (String, String);

/// Hadoop's configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Configuration {
    /// No variable says where it is.
    Unnamed,
    /// There is none in the folder that a variable names.
    Missing(PathBuf),
    /// It has more in it than is understood here; the client may understand it.
    Unclear,
    /// It says this.
    Known {
        /// Where it is.
        folder: PathBuf,
        /// By name.
        properties: BTreeMap<String, String>,
    },
}

impl Configuration {
    /// The one that `HADOOP_CONF_DIR` names, or else `HADOOP_HOME`, as the client finds it.
    pub(crate) fn of_environment() -> Self {
        let home = || Some(Path::new(&std::env::var_os("HADOOP_HOME")?).join("etc/hadoop"));
        let Some(folder) = std::env::var_os("HADOOP_CONF_DIR").map(PathBuf::from).or_else(home)
        else {
            return Self::Unnamed;
        };
        let mut texts = Vec::new();
        for name in FILES {
            let path = folder.join(name);
            match std::fs::read_to_string(&path) {
                Ok(text) => texts.push(text),
                Err(_) if !path.exists() => {}
                Err(_) => return Self::Unclear,
            }
        }
        Self::parse(folder, &texts)
    }

    /// What the files of a folder say.
    fn parse(folder: PathBuf, texts: &[String]) -> Self {
        if texts.is_empty() {
            return Self::Missing(folder);
        }
        let mut properties = BTreeMap::new();
        for text in texts {
            let options = roxmltree::ParsingOptions { allow_dtd: true, ..Default::default() };
            let Ok(document) = roxmltree::Document::parse_with_options(text, options) else {
                return Self::Unclear;
            };
            let children = document.root_element().children();
            properties.extend(children.filter(|it| it.has_tag_name("property")).filter_map(|it| {
                let text = |tag| it.children().find(|it| it.has_tag_name(tag))?.text();
                Some((text("name")?.trim().to_owned(), text("value")?.trim().to_owned()))
            }));
        }
        Self::Known { folder, properties }
    }

    /// What clients of an HDFS such as `hdfs://service` are to be told besides, each to ask another
    /// of its name nodes first. A client that is told nothing knows enough.
    ///
    /// # Errors
    /// Why that HDFS is not known, and what to do, for the user.
    pub(crate) fn clients(&self, authority: &str) -> Result<Vec<Vec<Property>>, String> {
        let named = authority.strip_prefix(SCHEME).unwrap_or(authority);
        let (folder, properties) = match self {
            Self::Known { folder, properties } => (folder, properties),
            Self::Unclear => return Ok(vec![Vec::new()]),
            Self::Unnamed | Self::Missing(_) if has_port(named) => return Ok(vec![Vec::new()]),
            Self::Unnamed => {
                return Err(format!("{}, and HADOOP_CONF_DIR is not set; {ADVICE}", what(named)));
            }
            Self::Missing(folder) => {
                return Err(format!(
                    "{}, and there is neither core-site.xml nor hdfs-site.xml in {}, which \
                     HADOOP_CONF_DIR or HADOOP_HOME names; {ADVICE}",
                    what(named),
                    folder.display()
                ));
            }
        };
        let folder = folder.display();
        let default = || properties.get(DEFAULT_HDFS).and_then(|it| it.strip_prefix(SCHEME));
        let service = if named.is_empty() { default().unwrap_or_default() } else { named };
        let service = service.split('/').next().unwrap_or_default();
        if service.is_empty() {
            return Err(format!(
                "the URL names no HDFS, and {DEFAULT_HDFS} in {folder} (HADOOP_CONF_DIR) names \
                 none either; {ADVICE}"
            ));
        }
        if has_port(service) {
            return Ok(vec![Vec::new()]);
        }
        let Some(nodes) = properties.get(&format!("{SERVICES}{service}")) else {
            let known = properties.keys().filter_map(|name| name.strip_prefix(SERVICES));
            let known: Vec<_> = known.map(|name| format!("`{name}`")).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            return Err(format!(
                "`{service}` is no name service of the configuration in {folder} \
                 (HADOOP_CONF_DIR): it has {known}; {ADVICE}"
            ));
        };
        // The client takes white space for a part of a name or an address, and passes over what has
        // no address.
        let address = |node| {
            let name = format!("{ADDRESS}{service}.{node}");
            Some((name.clone(), properties.get(&name)?.clone()))
        };
        let nodes = nodes.split(',').map(str::trim);
        let (mut nodes, addresses): (VecDeque<_>, Vec<Property>) =
            nodes.filter_map(|node| Some((node, address(node)?))).unzip();
        if nodes.is_empty() {
            return Err(format!(
                "the name service `{service}` has no name node with an address: set \
                 {SERVICES}{service} and {ADDRESS}{service}.NODE in {folder} (HADOOP_CONF_DIR)"
            ));
        }
        let clients = (0..nodes.len()).map(|_| {
            let order = nodes.make_contiguous().join(",");
            nodes.rotate_left(1);
            let own = [
                (format!("{SERVICES}{service}"), order),
                (format!("{RANDOM_ORDER}{service}"), "false".to_owned()),
            ];
            own.into_iter().chain(addresses.iter().cloned()).collect()
        });
        Ok(clients.collect())
    }
}

const ADVICE: &str = "write hdfs://host:port/path, or let HADOOP_CONF_DIR name the folder of the \
                      configuration that knows the name";

fn what(named: &str) -> String {
    if named.is_empty() {
        return "the URL names no HDFS".to_owned();
    }
    format!("`{named}` has no port, so that it is a name service")
}

/// True for what is a name node's address; one of version 6 has colons of its own.
fn has_port(named: &str) -> bool {
    named.rsplit_once(']').map_or(named, |(_, after)| after).contains(':')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(properties: &[(&str, &str)]) -> Configuration {
        let text = |(name, value): &(&str, &str)| {
            format!("<property><name>{name}</name><value>\n {value} </value></property>")
        };
        let text: String = properties.iter().map(text).collect();
        let text = format!("<?xml version=\"1.0\"?>\n<configuration>{text}</configuration>");
        Configuration::parse("/etc/hadoop".into(), &[text])
    }

    fn pair() -> Configuration {
        known(&[
            ("fs.defaultFS", "hdfs://gear/"),
            ("dfs.ha.namenodes.gear", "one, two ,three"),
            ("dfs.namenode.rpc-address.gear.one", "a:8020"),
            ("dfs.namenode.rpc-address.gear.two", "b:8020"),
        ])
    }

    #[test]
    fn each_client_of_a_name_service_asks_another_node_first() {
        for url in ["hdfs://gear", "hdfs://"] {
            let clients = pair().clients(url).unwrap();
            let order = |client: &Vec<Property>| client[0].clone();
            let name = "dfs.ha.namenodes.gear".to_owned();
            assert_eq!(
                clients.iter().map(order).collect::<Vec<_>>(),
                [(name.clone(), "one,two".to_owned()), (name, "two,one".to_owned())]
            );
            let all = [
                ("dfs.client.failover.random.order.gear", "false"),
                ("dfs.namenode.rpc-address.gear.one", "a:8020"),
                ("dfs.namenode.rpc-address.gear.two", "b:8020"),
            ];
            let all = all.map(|(name, value)| (name.to_owned(), value.to_owned()));
            assert!(clients.iter().all(|client| client[1..] == all), "{clients:?}");
        }
    }

    #[test]
    fn an_address_needs_no_configuration() {
        let missing = Configuration::Missing("/none".into());
        for configuration in [Configuration::Unnamed, missing, pair(), Configuration::Unclear] {
            for url in ["hdfs://h:8020", "hdfs://[::1]:8020"] {
                assert_eq!(configuration.clients(url), Ok(vec![Vec::new()]), "{configuration:?}");
            }
        }
        let single = known(&[("fs.defaultFS", "hdfs://h:8020")]);
        assert_eq!(single.clients("hdfs://"), Ok(vec![Vec::new()]));
    }

    #[test]
    fn what_is_not_known_is_said_with_what_to_do() {
        let missing = Configuration::Missing("/none".into());
        let lame = known(&[("dfs.ha.namenodes.gear", "one")]);
        let unset = known(&[("dfs.replication", "3")]);
        for (configuration, url, says) in [
            (Configuration::Unnamed, "hdfs://service", "HADOOP_CONF_DIR is not set"),
            (Configuration::Unnamed, "hdfs://", "names no HDFS"),
            (missing, "hdfs://service", "nor hdfs-site.xml in /none"),
            (pair(), "hdfs://service", "it has `gear`"),
            (unset.clone(), "hdfs://service", "it has none"),
            (unset, "hdfs://", "fs.defaultFS in /etc/hadoop"),
            (lame, "hdfs://gear", "set dfs.ha.namenodes.gear and dfs.namenode.rpc-address.gear"),
        ] {
            let error = configuration.clients(url).unwrap_err();
            assert!(error.contains(says) && error.contains("HADOOP_CONF_DIR"), "{error}");
        }
    }

    #[test]
    fn what_is_not_understood_is_left_to_the_client() {
        for text in ["no XML", "<configuration>&other;</configuration>"] {
            let unclear = Configuration::parse("/etc/hadoop".into(), &[text.to_owned()]);
            assert_eq!(unclear, Configuration::Unclear);
            assert_eq!(unclear.clients("hdfs://gear"), Ok(vec![Vec::new()]));
        }
        let none = Configuration::parse("/etc/hadoop".into(), &[]);
        assert_eq!(none, Configuration::Missing("/etc/hadoop".into()));
    }
}
