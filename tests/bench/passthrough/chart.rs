//! Charts, as SVG: one for each part, with a panel for each figure.

use std::ops::Range;

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::figure::Figure;

/// What is drawn.
pub(crate) struct Chart {
    pub(crate) title: String,
    pub(crate) panels: Vec<Panel>,
}

/// One figure, with its unit, of several things.
pub(crate) struct Panel {
    pub(crate) title: String,
    pub(crate) marks: Marks,
}

pub(crate) enum Marks {
    /// A strip for each thing, from top to bottom: as long as its best, which is told beside its name, with a line from
    /// least to most, and a dot at the median.
    Strips(Vec<(String, Figure)>),
    /// Lines over a scale that has a place for each of `scale`, through the best of each place, with a line from least to
    /// most; a place without a figure is left out.
    Lines { scale: Vec<String>, lines: Vec<(String, Vec<Option<Figure>>)> },
}

const WIDTH: u32 = 860;
const TITLE_HEIGHT: u32 = 44;
const STRIP_HEIGHT: u32 = 26;
/// Heading, axis and space of a panel.
const FRAME_HEIGHT: u32 = 84;
const LINES_HEIGHT: u32 = 240;
/// For the names and figures at the left of strips, and for the figures alone.
const NAMES_WIDTH: u32 = 220;
const FIGURE_WIDTH: i32 = 56;

const FONT: &str = "sans-serif";
const INK: RGBColor = RGBColor(40, 44, 52);
const FAINT: RGBColor = RGBColor(225, 228, 232);
/// Of strips, and of lines in turn; told apart also by those who see no red or green.
const COLOURS: [RGBColor; 3] = [RGBColor(78, 121, 167), RGBColor(242, 142, 43), RGBColor(89, 89, 89)];

/// Why a chart can't be drawn; into a string it always can.
type Failure = DrawingAreaErrorKind<<SVGBackend<'static> as DrawingBackend>::ErrorType>;
type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

impl Chart {
    /// The text of an SVG file.
    pub(crate) fn svg(&self) -> anyhow::Result<String> {
        let heights: Vec<u32> = self.panels.iter().map(Panel::height).collect();
        let size = (WIDTH, TITLE_HEIGHT + heights.iter().sum::<u32>());
        let mut svg = String::new();
        {
            let root = SVGBackend::with_string(&mut svg, size).into_drawing_area();
            root.fill(&WHITE)?;
            root.draw_text(&self.title, &text(18), (14, 14))?;
            let (_, mut rest) = root.split_vertically(TITLE_HEIGHT);
            for (panel, height) in self.panels.iter().zip(heights) {
                let (area, below) = rest.split_vertically(height);
                panel.draw(&area)?;
                rest = below;
            }
            root.present()?;
        }
        Ok(svg)
    }
}

impl Panel {
    fn height(&self) -> u32 {
        match &self.marks {
            Marks::Strips(strips) => FRAME_HEIGHT + STRIP_HEIGHT * u32::try_from(strips.len()).unwrap_or(1),
            Marks::Lines { .. } => FRAME_HEIGHT + LINES_HEIGHT,
        }
    }

    fn draw(&self, area: &Area<'_>) -> Result<(), Failure> {
        area.draw_text(&self.title, &text(14), (14, 8))?;
        let (_, area) = area.split_vertically(26);
        match &self.marks {
            Marks::Strips(strips) => draw_strips(&area, strips),
            Marks::Lines { scale, lines } => draw_lines(&area, scale, lines),
        }
    }
}

fn draw_strips(area: &Area<'_>, strips: &[(String, Figure)]) -> Result<(), Failure> {
    let longest = strips.iter().map(|(_, figure)| figure.most).fold(0.0, f64::max);
    let mut chart = ChartBuilder::on(area)
        .margin_right(30)
        .set_label_area_size(LabelAreaPosition::Left, NAMES_WIDTH)
        .set_label_area_size(LabelAreaPosition::Bottom, 30)
        .build_cartesian_2d(0.0..room(longest), places(strips.len()))?;
    chart
        .configure_mesh()
        .disable_y_mesh()
        .y_labels(0)
        .x_labels(8)
        .label_style(text(12))
        .bold_line_style(FAINT)
        .light_line_style(TRANSPARENT)
        .axis_style(INK)
        .draw()?;
    // The axis goes upwards, and reading downwards.
    for (at, (name, figure)) in middles(strips.len()).rev().zip(strips) {
        let beside =
            |away| move |label: String| Text::new(label, (away, 0), text(12).pos(Pos::new(HPos::Right, VPos::Center)));
        let (name, told) = (beside(-FIGURE_WIDTH)(name.clone()), beside(-8)(short(figure.best)));
        chart.draw_series([EmptyElement::at((0.0, at)) + name + told])?;
        if figure.best.is_nan() {
            continue;
        }
        let corners = [(0.0, at - 0.5), (figure.best, at + 0.5)];
        let mut strip = Rectangle::new(corners, COLOURS[0].mix(0.75).filled());
        strip.set_margin(5, 5, 0, 0);
        chart.draw_series([strip])?;
        chart.draw_series([PathElement::new([(figure.least, at), (figure.most, at)], INK)])?;
        chart.draw_series([Circle::new((figure.median, at), 3, INK.filled())])?;
    }
    Ok(())
}

fn draw_lines(area: &Area<'_>, scale: &[String], lines: &[(String, Vec<Option<Figure>>)]) -> Result<(), Failure> {
    let at = |place: usize| lines.iter().filter_map(move |(_, figures)| figures.get(place).copied().flatten());
    let highest = (0..scale.len()).flat_map(at).map(|figure| figure.most).fold(0.0, f64::max);
    let mut chart = ChartBuilder::on(area)
        .margin_right(30)
        .set_label_area_size(LabelAreaPosition::Left, 50)
        .set_label_area_size(LabelAreaPosition::Bottom, 30)
        .build_cartesian_2d(places(scale.len()), 0.0..room(highest))?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .x_labels(0)
        .y_labels(6)
        .label_style(text(12))
        .bold_line_style(FAINT)
        .light_line_style(TRANSPARENT)
        .axis_style(INK)
        .draw()?;
    for (x, label) in middles(scale.len()).zip(scale) {
        let style = text(12).pos(Pos::new(HPos::Center, VPos::Top));
        chart.draw_series([EmptyElement::at((x, 0.0)) + Text::new(label.clone(), (0, 8), style)])?;
    }
    for ((name, figures), colour) in lines.iter().zip(COLOURS.iter().cycle()) {
        let points: Vec<(usize, f64, Figure)> = (0..)
            .zip(middles(scale.len()))
            .zip(figures)
            .filter_map(|((place, x), figure)| Some((place, x, (*figure)?)))
            .collect();
        chart.draw_series(LineSeries::new(
            points.iter().map(|(_, x, figure)| (*x, figure.best)),
            colour.stroke_width(2),
        ))?;
        for (number, (place, x, figure)) in (1..).zip(&points) {
            chart.draw_series([PathElement::new([(*x, figure.least), (*x, figure.most)], *colour)])?;
            // What a machine does besides draws upwards from the best, so there is room below; of several at one place, the
            // others have their figures at the side, not to meet.
            let is_lowest = at(*place).all(|other| other.best >= figure.best);
            let (label, ink, by, (along, side)) = if number == points.len() {
                (format!("{} {name}", short(figure.best)), colour, (10, 0), (HPos::Left, VPos::Center))
            } else if is_lowest {
                (short(figure.best), &INK, (0, 8), (HPos::Center, VPos::Top))
            } else {
                (short(figure.best), &INK, (8, -4), (HPos::Left, VPos::Bottom))
            };
            let style = text(12).pos(Pos::new(along, side)).color(ink);
            let dot = EmptyElement::at((*x, figure.best))
                + Circle::new((0, 0), 4, colour.filled())
                + Text::new(label, by, style);
            chart.draw_series([dot])?;
        }
    }
    Ok(())
}

/// An axis with so many places, each of them one long.
fn places(count: usize) -> Range<f64> {
    0.0..count.max(1) as f64
}

/// The middles of so many places.
fn middles(count: usize) -> impl DoubleEndedIterator<Item = f64> + ExactSizeIterator {
    (0..count).map(|place| place as f64 + 0.5)
}

fn text(size: i32) -> TextStyle<'static> {
    (FONT, size).into_font().color(&INK)
}

/// A little more than what is drawn; also where there is nothing.
fn room(most: f64) -> f64 {
    if most > 0.0 { most * 1.06 } else { 1.0 }
}

/// About three digits.
fn short(value: f64) -> String {
    if value.is_nan() {
        "–".to_owned()
    } else if value < 10.0 {
        format!("{value:.2}")
    } else {
        format!("{value:.0}")
    }
}
