"use strict";
const place = (id) => document.getElementById(id);
const compared = comparison(document.querySelector("#result figure[data-title]"));
const points = cloud(document.querySelector("#result figure.cloud"));
let asked = 0;

function say(text, wrong = false) {
  place("said").textContent = text;
  place("said").className = wrong ? "warn" : "note";
}

async function ask(photograph, name) {
  const number = ++asked;
  say(`Predicting the depth of ${name} …`);
  document.querySelector("main").setAttribute("aria-busy", "true");
  try {
    const found = await (await fetch("depth", { method: "POST", body: photograph })).json();
    if (number !== asked) return; // another photograph was chosen in the meantime
    if (found.error) {
      place("result").hidden = true;
      return say(found.error, true);
    }
    place("result").hidden = false;
    compared.pair({ name: "photograph", source: found.image }, { name: "depth", source: found.depth });
    place("meaning").textContent = found.meaning;
    await points.load(found.cloud, found.cloud.sources[0]);
    say(`${name}: ${found.said}`);
  } catch (error) {
    if (number === asked) say(`No answer: is depthkd demo still running? Its terminal says more. (${error.message})`, true);
  } finally {
    if (number === asked) document.querySelector("main").removeAttribute("aria-busy");
  }
}

place("file").addEventListener("change", (event) => {
  const [file] = event.target.files;
  if (file) ask(file, file.name);
});
for (const button of document.querySelectorAll("button[data-example]")) {
  button.addEventListener("click", async () => {
    try {
      ask(await (await fetch(button.dataset.example)).blob(), button.getAttribute("aria-label"));
    } catch (error) {
      say(`No answer: is depthkd demo still running? (${error.message})`, true);
    }
  });
}
addEventListener("dragover", (event) => event.preventDefault());
addEventListener("drop", (event) => {
  event.preventDefault();
  const [file] = event.dataTransfer.files;
  if (file) ask(file, file.name);
});
