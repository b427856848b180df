//! The page, its plots, and the numbers for programs.

use std::fs;
use std::path::Path;

use serde_json::json;

use crate::Run;
use crate::crowds;
use crate::plots::{Axis, Corner, Owner, Plot, Scale, Series};
use crate::samples::Samples;
use crate::table::{Line, Unit, amount, short_amount};

/// The page without what was measured.
const TEMPLATE: &str = include_str!("page.md");
const SCALING: &str = include_str!("scaling.md");

/// Writes `performance.md`, `performance.json` and `images/performance-*.svg`.
pub fn write(run: &Run, docs: &Path) {
    let images = docs.join("images");
    fs::create_dir_all(&images).expect("make the folder of the plots");
    for (name, plot) in plots(run) {
        let file = images.join(format!("performance-{name}.svg"));
        plot.write(&file).expect("draw a plot");
    }
    let quick =
        "This run only tried everything with small numbers. It says nothing about speed.\n\n";
    let page = TEMPLATE
        .replace("{quick}", run.scale("", quick))
        .replace("{summary}", &summary(run))
        .replace("{processors}", &processors().to_string())
        .replace("{table}", run.table.markdown().trim_end());
    fs::write(docs.join("performance.md"), page).expect("write the page");
    let numbers = json!({
        "quick": run.is_quick,
        "processors": processors(),
        "lines": run.table.json(),
    });
    let text = serde_json::to_string_pretty(&numbers).expect("JSON");
    fs::write(docs.join("performance.json"), text + "\n").expect("write the numbers");
    println!("\nwritten: {}", docs.join("performance.md").display());
}

/// Writes `scaling.md`.
pub fn write_scaling(run: &Run, docs: &Path) {
    fs::create_dir_all(docs).expect("make the folder of the page");
    let page = SCALING
        .replace("{processors}", &processors().to_string())
        .replace("{table}", crowds::table(&run.loads).trim_end());
    fs::write(docs.join("scaling.md"), page).expect("write the page on scaling");
}

fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Three sentences for those who decide.
fn summary(run: &Run) -> String {
    let line = |beginning: &str| -> &Line {
        let found = run.table.starting_with(beginning);
        found.unwrap_or_else(|| panic!("a line that begins with {beginning:?}"))
    };
    let workers = run.usual_workers();
    let list = line(&format!("an unchanged list of all of {workers} workers"));
    let bytes = line("bytes from etcd:");
    let frozen = line("the slowest list while");
    let both = |line: &Line| {
        let stock = line.stock.expect("a line with the stock class");
        (amount(line.unit, line.ours), amount(line.unit, stock))
    };
    let (ours, stock) = both(list);
    let (few, many) = both(bytes);
    let (short, long) = both(frozen);
    format!(
        "A list of {workers} workers takes {ours} here and {stock} with Alluxio's own class.\n\
         Ten JVMs that list once a second receive {few} from etcd in a minute, not {many}.\n\
         While one of three etcd members is frozen, the slowest list takes {short}, not {long}."
    )
}

fn plots(run: &Run) -> Vec<(&'static str, Plot)> {
    let mut plots = vec![("time", time(run)), ("garbage", garbage(run))];
    if let Some(frozen) = &run.frozen {
        let series = |name: &str, owner, points: &[(f64, f64)]| Series {
            name: name.to_string(),
            owner,
            points: points.to_vec(),
            dots: true,
            joined: false,
        };
        plots.push((
            "frozen",
            Plot {
                title: "A list of 100 workers while one etcd member is frozen (grey)",
                x: Axis {
                    name: "seconds since the start",
                    scale: Scale::Linear,
                    from: 0.0,
                    to: frozen.end,
                    ticks: steps(frozen.end, 5.0),
                    label: whole,
                },
                y: time_axis(1e-7, 100.0),
                series: vec![
                    series("stock class", Owner::Stock, &frozen.stock),
                    series("this library", Owner::Ours, &frozen.ours),
                ],
                shaded: frozen.times.clone(),
                legend: Corner::LowerRight,
            },
        ));
    }
    if let Some((go, ours)) = &run.changes {
        plots.push(("change", changes(go, ours)));
    }
    plots
}

fn time(run: &Run) -> Plot {
    Plot {
        title: "Time of one list when nothing changes",
        x: workers_axis(run),
        y: time_axis(1e-9, 10.0),
        series: vec![
            curve("stock class", Owner::Stock, &run.curves.stock),
            curve("this library", Owner::Ours, &run.curves.ours),
            curve(
                "a native call that does nothing",
                Owner::Bound,
                &run.curves.empty,
            ),
        ],
        shaded: Vec::new(),
        legend: Corner::MiddleRight,
    }
}

fn garbage(run: &Run) -> Plot {
    Plot {
        title: "Garbage of one list when nothing changes; at the bottom: less than a byte",
        x: workers_axis(run),
        y: Axis {
            name: "bytes",
            scale: Scale::Logarithmic,
            from: 1.0,
            to: 1e10,
            ticks: powers(0, 10),
            label: |value| short_amount(Unit::Bytes, value),
        },
        series: vec![
            curve("stock class", Owner::Stock, &run.curves.stock_garbage),
            curve("this library", Owner::Ours, &run.curves.ours_garbage),
        ],
        shaded: Vec::new(),
        legend: Corner::MiddleRight,
    }
}

fn changes(go: &Samples, ours: &Samples) -> Plot {
    let distribution = |name: &str, owner, samples: &Samples| {
        let sorted = samples.sorted();
        let part = |place: usize| 100.0 * (place + 1) as f64 / sorted.len() as f64;
        Series {
            name: name.to_string(),
            owner,
            points: sorted
                .iter()
                .enumerate()
                .map(|(place, value)| (*value, part(place)))
                .collect(),
            dots: false,
            joined: true,
        }
    };
    Plot {
        title: "From a write until another process has it: the part of the changes",
        x: time_axis(1e-4, 1e-1),
        y: Axis {
            name: "percent of the changes",
            scale: Scale::Linear,
            from: 0.0,
            to: 100.0,
            ticks: steps(100.0, 20.0),
            label: whole,
        },
        series: vec![
            distribution("Go client's watch", Owner::Bound, go),
            distribution("this library's view", Owner::Ours, ours),
        ],
        shaded: Vec::new(),
        legend: Corner::UpperLeft,
    }
}

fn curve(name: &str, owner: Owner, points: &[(i64, f64)]) -> Series {
    Series {
        name: name.to_string(),
        owner,
        points: points
            .iter()
            .map(|(workers, value)| (*workers as f64, *value))
            .collect(),
        dots: true,
        joined: true,
    }
}

fn workers_axis(run: &Run) -> Axis {
    Axis {
        name: "workers",
        scale: Scale::Logarithmic,
        from: 8.0,
        to: run.most_workers() as f64 * 1.25,
        ticks: run
            .workers()
            .iter()
            .map(|workers| *workers as f64)
            .collect(),
        label: whole,
    }
}

fn time_axis(from: f64, to: f64) -> Axis {
    let exponent = |value: f64| value.log10().round() as i32;
    Axis {
        name: "time",
        scale: Scale::Logarithmic,
        from,
        to,
        ticks: powers(exponent(from), exponent(to)),
        label: |value| short_amount(Unit::Seconds, value),
    }
}

fn powers(from: i32, to: i32) -> Vec<f64> {
    (from..=to).map(|exponent| 10_f64.powi(exponent)).collect()
}

fn steps(to: f64, step: f64) -> Vec<f64> {
    (0..)
        .map(|count| f64::from(count) * step)
        .take_while(|value| *value <= to)
        .collect()
}

fn whole(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let groups: Vec<&str> = digits
        .as_bytes()
        .rchunks(3)
        .rev()
        .map(|group| std::str::from_utf8(group).expect("digits"))
        .collect();
    groups.join(",")
}
