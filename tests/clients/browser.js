// Headless Chromium, as the tests and the pictures of pages want it: it asks for nothing but the
// page. RINGWIRE_TEST_CHROMIUM names another than the one that Debian installs.
"use strict";

// `chromium` is that of playwright-core, which lies elsewhere for each who calls this.
exports.launch = (chromium) => chromium.launch({
  executablePath: process.env.RINGWIRE_TEST_CHROMIUM || "/usr/bin/chromium",
  headless: true,
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    // Certificates of tests are issued by nobody whom a browser knows.
    "--ignore-certificate-errors"],
});
