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
    const CSS: &str = "text/css; charset=utf-8";
    match path {
        "/" => file!(HTML, "index.html"),
        "/page.css" => file!(CSS, "page.css"),
        "/page.js" => file!(JS, "page.js"),
        "/live.js" => file!(JS, "live.js"),
        "/rows.js" => file!(JS, "rows.js"),
        "/charts.js" => file!(JS, "charts.js"),
        "/screens.js" => file!(JS, "screens.js"),
        "/columns.js" => file!(JS, "columns.js"),
        "/series.js" => file!(JS, "series.js"),
        "/map.js" => file!(JS, "map.js"),
        "/camera.js" => file!(JS, "camera.js"),
        "/ground.js" => file!(JS, "ground.js"),
        "/points.js" => file!(JS, "points.js"),
        "/palette.js" => file!(JS, "palette.js"),
        "/vendor/uplot.js" => file!(JS, "vendor/uplot.js"),
        "/vendor/uplot.css" => file!(CSS, "vendor/uplot.css"),
        "/vendor/outlines.json" => file!("application/json", "vendor/outlines.json"),
        "/vendor/LICENCES.txt" => file!("text/plain; charset=utf-8", "vendor/LICENCES.txt"),
        "/icon.svg" => file!("image/svg+xml", "icon.svg"),
        _ => None,
    }
}
