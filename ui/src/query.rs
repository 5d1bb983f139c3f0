//! What stands in an address behind the question mark. Pure.

/// The pairs of a query.
#[derive(Debug, Default)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    pub(crate) fn parse(text: Option<&str>) -> Self {
        let pairs = form_urlencoded::parse(text.unwrap_or_default().as_bytes()).take(16);
        Query(pairs.map(|(name, value)| (name.into_owned(), value.into_owned())).collect())
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(other, _)| other == name).map(|(_, value)| &value[..])
    }

    /// A number; what is wrong, if it is none.
    pub(crate) fn number(&self, name: &str) -> Result<Option<usize>, String> {
        let parse = |text: &str| text.parse().map_err(|_| format!("{name}={text} is no number"));
        self.get(name).map(parse).transpose()
    }

    /// Which of these it has that are not known.
    pub(crate) fn only(&self, known: &[&str]) -> Result<(), String> {
        match self.0.iter().find(|(name, _)| !known.contains(&&name[..]) && name != "token") {
            Some((name, _)) => {
                Err(format!("there is no parameter {name:?} here; there are {}", known.join(", ")))
            }
            None => Ok(()),
        }
    }
}
