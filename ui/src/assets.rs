//! The page's files, which are in the binary.

/// A file's type and contents, by its path.
pub(crate) fn asset(path: &str) -> Option<(&'static str, &'static [u8])> {
    const HTML: &str = "text/html; charset=utf-8";
    const JS: &str = "text/javascript; charset=utf-8";
    macro_rules! file {
        ($kind:expr, $name:literal) => {
            Some(($kind, include_bytes!(concat!("../page/", $name)).as_slice()))
        };
    }
    match path {
        "/" => file!(HTML, "index.html"),
        "/page.css" => file!("text/css; charset=utf-8", "page.css"),
        "/page.js" => file!(JS, "page.js"),
        "/live.js" => file!(JS, "live.js"),
        "/rows.js" => file!(JS, "rows.js"),
        "/charts.js" => file!(JS, "charts.js"),
        "/screens.js" => file!(JS, "screens.js"),
        "/icon.svg" => file!("image/svg+xml", "icon.svg"),
        _ => None,
    }
}
