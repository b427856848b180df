//! The plots of the page. Their colours follow the reader's preference of light or dark.

use std::error::Error;
use std::fs;
use std::ops::Range;
use std::path::Path;

use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, ValueFormatter};
use plotters::prelude::*;

const SIZE: (u32, u32) = (760, 430);

/// The colours of light mode, and the ones that dark mode has instead.
const BACKGROUND: (RGBColor, &str) = (RGBColor(255, 255, 255), "#0d1117");
const INK: (RGBColor, &str) = (RGBColor(31, 35, 40), "#e6edf3");
const GRID: (RGBColor, &str) = (RGBColor(216, 222, 228), "#30363d");
const SHADE: (RGBColor, &str) = (RGBColor(234, 238, 242), "#21262d");
const STOCK: (RGBColor, &str) = (RGBColor(188, 76, 0), "#f0883e");
const OURS: (RGBColor, &str) = (RGBColor(9, 105, 218), "#58a6ff");
const BOUND: (RGBColor, &str) = (RGBColor(110, 119, 129), "#9ea7b3");
const COLOURS: [(RGBColor, &str); 7] = [BACKGROUND, INK, GRID, SHADE, STOCK, OURS, BOUND];

/// Whose numbers a line has.
#[derive(Debug, Clone, Copy)]
pub enum Owner {
    Stock,
    Ours,
    Bound,
}

impl Owner {
    fn colour(self) -> RGBColor {
        match self {
            Owner::Stock => STOCK.0,
            Owner::Ours => OURS.0,
            Owner::Bound => BOUND.0,
        }
    }
}

/// One line of a plot.
pub struct Series {
    pub name: String,
    pub owner: Owner,
    pub points: Vec<(f64, f64)>,
    /// Whether each point gets a dot.
    pub dots: bool,
    /// Whether the points are joined.
    pub joined: bool,
}

/// How the numbers of an axis are spread.
#[derive(Debug, Clone, Copy)]
pub enum Scale {
    Linear,
    /// Each power of ten takes the same space.
    Logarithmic,
}

#[derive(Clone)]
pub struct Axis {
    pub name: &'static str,
    pub scale: Scale,
    pub from: f64,
    pub to: f64,
    /// The numbers to write beside it.
    pub ticks: Vec<f64>,
    pub label: fn(f64) -> String,
}

impl Ranged for Axis {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        let value = value.clamp(self.from, self.to);
        let part = match self.scale {
            Scale::Linear => (value - self.from) / (self.to - self.from),
            Scale::Logarithmic => (value / self.from).ln() / (self.to / self.from).ln(),
        };
        limit.0 + (f64::from(limit.1 - limit.0) * part).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, _hint: Hint) -> Vec<f64> {
        self.ticks.clone()
    }

    fn range(&self) -> Range<f64> {
        self.from..self.to
    }
}

impl ValueFormatter<f64> for Axis {
    fn format_ext(&self, value: &f64) -> String {
        (self.label)(*value)
    }
}

/// Where the legend is: the plot must be empty there.
pub type Corner = SeriesLabelPosition;

pub struct Plot {
    pub title: &'static str,
    pub x: Axis,
    pub y: Axis,
    pub series: Vec<Series>,
    /// Where the background is darker, on the x axis.
    pub shaded: Vec<(f64, f64)>,
    pub legend: Corner,
}

impl Plot {
    /// Writes it as SVG.
    pub fn write(&self, file: &Path) -> Result<(), Box<dyn Error>> {
        let mut svg = String::new();
        self.draw(SVGBackend::with_string(&mut svg, SIZE).into_drawing_area())?;
        fs::write(file, with_dark_colours(&svg))?;
        Ok(())
    }

    fn draw(
        &self,
        area: DrawingArea<SVGBackend, plotters::coord::Shift>,
    ) -> Result<(), Box<dyn Error>> {
        let text = |size: u32| ("sans-serif", size).into_font().color(&INK.0);
        area.fill(&BACKGROUND.0)?;
        let mut chart = ChartBuilder::on(&area)
            .caption(self.title, text(17))
            .margin(12)
            .margin_right(30)
            .x_label_area_size(48)
            .y_label_area_size(72)
            .build_cartesian_2d(self.x.clone(), self.y.clone())?;
        for (from, to) in &self.shaded {
            let corners = [(*from, self.y.from), (*to, self.y.to)];
            chart.draw_series([Rectangle::new(corners, SHADE.0.filled())])?;
        }
        chart
            .configure_mesh()
            .x_desc(self.x.name)
            .y_desc(self.y.name)
            .bold_line_style(GRID.0)
            .light_line_style(TRANSPARENT)
            .axis_style(INK.0)
            .label_style(text(13))
            .axis_desc_style(text(14))
            .draw()?;
        for series in &self.series {
            let colour = series.owner.colour();
            let places = series.points.iter().copied();
            if series.joined {
                chart.draw_series(LineSeries::new(places.clone(), colour.stroke_width(2)))?;
            }
            if series.dots {
                let radius = if series.joined { 4 } else { 2 };
                chart
                    .draw_series(places.map(|place| Circle::new(place, radius, colour.filled())))?;
            }
            chart
                .draw_series(std::iter::empty::<Circle<(f64, f64), u32>>())?
                .label(&series.name)
                .legend(move |(x, y)| {
                    Rectangle::new([(x, y - 3), (x + 18, y + 1)], colour.filled())
                });
        }
        chart
            .configure_series_labels()
            .position(self.legend.clone())
            .margin(14)
            .background_style(BACKGROUND.0.filled())
            .border_style(GRID.0)
            .label_font(text(13))
            .draw()?;
        area.present()?;
        Ok(())
    }
}

/// Adds the colours of dark mode. Attributes of elements have less weight than rules of a style.
fn with_dark_colours(svg: &str) -> String {
    let rules: String = COLOURS
        .iter()
        .map(|(RGBColor(red, green, blue), dark)| {
            let light = format!("#{red:02X}{green:02X}{blue:02X}");
            format!(r#"[fill="{light}"]{{fill:{dark}}}[stroke="{light}"]{{stroke:{dark}}}"#)
        })
        .collect();
    let style = format!("<style>@media (prefers-color-scheme: dark){{{rules}}}</style>");
    let start = svg.find("<svg").expect("an SVG");
    let end = start + svg[start..].find('>').expect("an element") + 1;
    format!("{}\n{style}{}\n", &svg[..end], svg[end..].trim_end())
}
