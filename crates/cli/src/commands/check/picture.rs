//! A picture of a problem: its line, with what is meant underlined.

use annotate_snippets::{AnnotationKind, Level, Origin, Renderer, Snippet};
use lateen_world::Problem;

/// Longer lines are machine-made, and say nothing to the eye.
const LONGEST_LINE: usize = 300;

/// Draws one problem of a file with this text.
pub(super) fn draw(problem: &Problem, error: bool, text: &str) -> String {
    let level = if error { Level::ERROR } else { Level::WARNING };
    let object = problem.object.as_ref().map(|object| format!(" ({object})")).unwrap_or_default();
    let title = level.primary_title(format!("{}{object}", problem.message));
    let number = problem.line as usize;
    let line = text.lines().nth(number.saturating_sub(1)).unwrap_or_default();
    // Without its text a problem stands in something secret, of which no line is shown either.
    let shown = !problem.text.is_empty() && line.chars().count() <= LONGEST_LINE;
    let mut group = match shown {
        true => {
            let span = span(line, problem.column as usize, problem.length as usize);
            let label = problem.expected.as_ref().map(|expected| format!("expected {expected}"));
            let annotation = AnnotationKind::Primary.span(span).label(label);
            title.element(
                Snippet::source(line).line_start(number).path(problem.file.as_str()).annotation(annotation),
            )
        }
        false => {
            let origin =
                Origin::path(problem.file.as_str()).line(number).char_column(problem.column as usize);
            let group = title.element(origin);
            match &problem.expected {
                Some(expected) => group.element(Level::NOTE.message(format!("expected {expected}"))),
                None => group,
            }
        }
    };
    if let Some(suggestion) = &problem.suggestion {
        group = group.element(Level::HELP.message(format!("did you mean `{suggestion}`?")));
    }
    // Colours are taken out again where the output shows none.
    Renderer::styled().render(&[group])
}

/// The bytes of a line that begin at a column (from 1) and have this many characters.
fn span(line: &str, column: usize, length: usize) -> std::ops::Range<usize> {
    let at = |column: usize| line.char_indices().nth(column).map_or(line.len(), |(place, _)| place);
    let start = at(column.saturating_sub(1));
    start..at(column.saturating_sub(1) + length.max(1)).max(start)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_characters() {
        for (line, column, length, expected) in
            [("abc", 1, 2, "ab"), ("äöü x", 5, 9, "x"), ("ä: b", 4, 1, "b"), ("", 1, 1, ""), ("a", 9, 9, "")]
        {
            assert_eq!(&line[span(line, column, length)], expected, "{line}");
        }
    }
}
