//! Drawings on buttons, on a grid of 20 by 20. They say nothing to screen readers: the words beside them do.

/// An icon by its name; nothing for a name that there is none of.
pub fn of(name: &str) -> String {
    let path = match name {
        "add" => "M10 4v12M4 10h12",
        "back" => "M12 4l-6 6 6 6",
        "check" => "M4 10.5l4 4 8-9",
        "close" => "M5 5l10 10M15 5L5 15",
        "down" => "M10 4v11M5.5 10.5L10 15l4.5-4.5",
        "gear" => {
            "M4 6h6M14 6h2M4 14h2M10 14h6M12 6m-2 0a2 2 0 1 0 4 0a2 2 0 1 0-4 0M8 14m-2 0a2 2 0 1 0 4 0a2 2 0 1 0-4 0"
        }
        "keys" => "M3 5.5h14v9H3zM6 8.5h.1M9 8.5h.1M12 8.5h.1M14.5 8.5h.1M6.5 11.5h7",
        "leave" => "M8 4H4v12h4M8.5 10H17M13.5 6.5L17 10l-3.5 3.5",
        "pause" => "M7 4.5v11M13 4.5v11",
        "pen" => "M4 16l.8-3.2L13 4.6a1.4 1.4 0 0 1 2 0l.4.4a1.4 1.4 0 0 1 0 2L7.2 15.2z",
        "play" => "M6.5 4.5v11l9-5.5z",
        "search" => "M9 9m-5 0a5 5 0 1 0 10 0a5 5 0 1 0-10 0M12.8 12.8L17 17",
        "trash" => "M4 6h12M8 6V4h4v2M6 6l.7 10h6.6L14 6",
        "up" => "M10 16V5M5.5 9.5L10 5l4.5 4.5",
        _ => return String::new(),
    };
    format!(
        r#"<svg class="icon" viewBox="0 0 20 20" aria-hidden="true" focusable="false"><path d="{path}"/></svg>"#
    )
}
