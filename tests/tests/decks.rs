//! The services of the slides that fleet was made for: the units in `units/`, as they are, with the commands of
//! `units/README.md`, from images that docker pulls out of a registry. The images are built of Debian's packages
//! (`tests/images`); of Elasticsearch there is none, and something answers in its place.

use std::{path::Path, time::Duration};

use fleet_lab::{Lab, eventually};
use fleet_tests::{Cluster, DEADLINE, Registry, docs::typed};

/// How long a service may take to answer: an image is pulled, a database made, Python compiles all that it imports.
const SERVICE: Duration = Duration::from_secs(150);

/// A cluster with all units in `/root/units` of h1.
struct Slides {
    cluster: Cluster,
    _registry: Registry,
}

impl Slides {
    fn new() -> Self {
        let lab = Lab::builder().hosts(3).docker(true).ssh(true).config("agent_ttl=\"5s\"");
        let cluster = Cluster::with(lab);
        let registry = Registry::serve(&cluster.lab, &["mysql", "nginx", "wordpress", "elasticsearch", "notebook"]);
        cluster.host("h1").sh("mkdir /root/units").unwrap();
        for entry in Path::new(env!("CARGO_MANIFEST_DIR")).join("../units").read_dir().unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            cluster.write(&[(&format!("units/{name}"), &std::fs::read_to_string(&path).unwrap())]);
        }
        Self { cluster, _registry: registry }
    }

    /// Runs the commands of a section of the README on h1; afterwards these units run.
    fn follow(&self, heading: &str, units: &[&str]) {
        let script = format!("cd /root && set -e\n{}", typed("../units/README.md", heading));
        // What waits for ever is a failed test, not a test without end.
        let output = self.cluster.host("h1").exec(&["timeout", "240", "bash", "-c", &script]).unwrap();
        assert!(output.status.success(), "{heading}: {output:?}");
        self.run(units);
    }

    /// Waits until these units are active.
    fn run(&self, units: &[&str]) {
        eventually(SERVICE, &format!("{units:?} are active"), || {
            let rows = self.cluster.rows()?;
            Ok(units.iter().all(|unit| rows.iter().any(|row| row.unit == *unit && row.active == "active")))
        })
        .unwrap();
    }

    fn host_of(&self, unit: &str) -> String {
        self.cluster.host_of(unit).unwrap_or_else(|| panic!("{unit} has no host"))
    }

    /// Waits until somebody on another host than that of `unit` is answered there with `words` in it.
    fn answers(&self, unit: &str, place: &str, words: &str) {
        eventually(SERVICE, &format!("{unit} answers {words:?} at {place}"), || {
            let at = self.host_of(unit);
            let asks = self.cluster.lab.hosts().iter().find(|host| host.name() != at);
            let url = format!("http://{}{place}", self.cluster.host(&at).address());
            let page = asks.expect("there are three").sh(&format!("curl -sf --max-time 10 '{url}'"));
            Ok(page.is_ok_and(|page| page.contains(words)))
        })
        .unwrap();
    }

    fn destroy(&self, units: &[&str]) {
        let words: Vec<&str> = ["destroy"].into_iter().chain(units.iter().copied()).collect();
        self.cluster.ok(&words);
    }
}

/// In one boot: the images are large, and services of different slides do run side by side.
#[test]
fn services_of_the_slides_run_as_their_units_say() {
    let slides = Slides::new();
    first_units(&slides);
    elasticsearch_from_an_image_of_ones_own(&slides);
    wordpress_and_its_database_go_together(&slides);
    notebooks_compute(&slides);
    nginx_shows_what_is_in_mysql(&slides);
    let left = ["mysql", "nginx", "nginx-content", "hello", "node-info", "web@1", "web@2", "web-announce@1"];
    slides.destroy(&[&left[..], &["web-announce@2", "cleanup.service", "cleanup.timer"]].concat());
    for host in slides.cluster.lab.hosts() {
        eventually(DEADLINE, "no container is left", || Ok(host.sh("/usr/bin/docker ps -aq")?.is_empty())).unwrap();
    }
}

fn first_units(slides: &Slides) {
    slides.follow("The first units", &["hello.service", "node-info.service"]);
    let units = ["web@1.service", "web@2.service", "web-announce@1.service", "web-announce@2.service", "cleanup.timer"];
    slides.follow("A web server on each machine", &units);
    slides.answers("web@1.service", ":8080/", "web 1");
}

fn elasticsearch_from_an_image_of_ones_own(slides: &Slides) {
    let image = format!("{}/dockerfile/elasticsearch", slides.cluster.lab.registry());
    for host in slides.cluster.lab.hosts() {
        host.write("/etc/default/elasticsearch", &format!("IMAGE={image}\nOPTIONS=--env A=1 --env B=2\n")).unwrap();
    }
    slides.follow("Elasticsearch", &["elasticsearch.service"]);
    slides.answers("elasticsearch.service", ":9200/", "You Know, for Search");
    slides.answers("elasticsearch.service", ":9300/", "You Know, for Search");
    let host = slides.cluster.host(&slides.host_of("elasticsearch.service"));
    let format = "{{.Config.Image}} {{.Config.Env}} {{.HostConfig.Memory}}";
    let container = host.sh(&format!("/usr/bin/docker inspect --format '{format}' elasticsearch")).unwrap();
    assert!(container.starts_with(&image) && container.contains("A=1 ") && container.contains("B=2 "), "{container}");
    assert!(container.trim().ends_with(&format!("] {}", 2_u64 << 30)), "the limit binds the container: {container}");
    slides.destroy(&["elasticsearch"]);
}

fn wordpress_and_its_database_go_together(slides: &Slides) {
    let units = ["wordpress-db.service", "wordpress.service"];
    slides.follow("WordPress", &units);
    let host = slides.host_of("wordpress.service");
    assert_eq!(slides.host_of("wordpress-db.service"), host);
    // Its own page for the first visit tells that it has found the database.
    slides.answers("wordpress.service", ":80/wp-admin/install.php", "Information needed");
    let form = "weblog_title=Slides&user_name=admin&admin_password=secret&admin_password2=secret&pw_weak=on\
                &admin_email=a@example.com&blog_public=0";
    let url = format!("http://{}/wp-admin/install.php?step=2", slides.cluster.host(&host).address());
    let page = slides.cluster.host("h1").sh(&format!("curl -sf --max-time 60 '{url}' -d '{form}'")).unwrap();
    assert!(page.contains("Success!"), "{page}");
    slides.answers("wordpress.service", ":80/", "<title>Slides</title>");

    slides.cluster.ok(&["stop", "wordpress-db"]);
    eventually(DEADLINE, "both are down", || {
        let rows = slides.cluster.rows()?;
        Ok(rows.iter().filter(|row| units.contains(&&*row.unit)).all(|row| row.active == "inactive"))
    })
    .unwrap();
    slides.cluster.ok(&["start", "wordpress-db"]);
    slides.run(&units);
    slides.answers("wordpress.service", ":80/", "Hello world!");
    slides.destroy(&["wordpress-db", "wordpress"]);
}

fn notebooks_compute(slides: &Slides) {
    let (alice, bob) = ("notebook@alice.service", "notebook@bob.service");
    slides.follow("Notebooks", &[alice, bob]);
    assert_ne!(slides.host_of(alice), slides.host_of(bob));
    slides.answers(alice, ":8888/api/status?token=mypasswd", "\"kernels\": 0");
    slides.answers(bob, ":8888/login", "token");
    let host = slides.cluster.host(&slides.host_of(alice));
    let notebook = r#"{"cells": [{"cell_type": "code", "execution_count": null, "metadata": {}, "outputs": [],
        "source": "print(6 * 7)"}], "metadata": {}, "nbformat": 4, "nbformat_minor": 2}"#;
    host.write("/tmp/content.json", &format!(r#"{{"type": "notebook", "content": {notebook}}}"#)).unwrap();
    // Uploaded as a browser does it, it is on the disk of the host, and what runs it is Jupyter.
    host.sh("curl -sf --max-time 20 -X PUT -H 'Authorization: token mypasswd' -d @/tmp/content.json \
         http://localhost:8888/api/contents/work/sum.ipynb && test -s /srv/notebook/alice/sum.ipynb")
        .unwrap();
    let run =
        "/usr/bin/docker exec notebook-alice python3 -m nbconvert --to notebook --execute --stdout work/sum.ipynb";
    let result = host.sh(run).unwrap();
    assert!(result.contains("42"), "{result}");
    slides.destroy(&[alice, bob]);
}

fn nginx_shows_what_is_in_mysql(slides: &Slides) {
    slides.follow("MySQL and nginx", &["mysql.service", "nginx.service", "nginx-content.service"]);
    let (database, server) = (slides.host_of("mysql.service"), slides.host_of("nginx.service"));
    assert_ne!(database, server);
    assert_eq!(slides.host_of("nginx-content.service"), server);
    slides.answers("nginx.service", ":80/", "from another machine");

    // The page follows the table, and the server takes its content along when it has to go.
    slides.cluster.ok(&["drain", slides.cluster.host(&server).machine_id()]);
    let update = "docker exec mysql mysql -uroot -pmypasswd -e \"UPDATE content.page SET title = 'and from a third'\"";
    slides.cluster.host(&database).sh(&format!("/usr/bin/{update}")).unwrap();
    slides.run(&["nginx.service", "nginx-content.service"]);
    assert_ne!(slides.host_of("nginx.service"), server);
    assert_eq!(slides.host_of("nginx-content.service"), slides.host_of("nginx.service"));
    slides.answers("nginx.service", ":80/", "and from a third");
}

/// SLURM's part is in `slurm.rs`.
#[test]
fn every_section_of_the_readme_is_followed() {
    let sections = include_str!("../../units/README.md").split("\n## ").filter(|section| section.contains("```sh\n"));
    let headings: Vec<&str> = sections.filter_map(|section| section.lines().next()).collect();
    let followed = [
        "The first units",
        "A web server on each machine",
        "MySQL and nginx",
        "WordPress",
        "Elasticsearch",
        "Notebooks",
        "SLURM",
    ];
    assert_eq!(headings, followed);
}
