"use strict";
const base = location.protocol.startsWith("http") ? new URL(".", location).href.slice(0, -1) : "";
const token = document.getElementById("token");

for (const code of base ? document.querySelectorAll(".command code") : []) {
  code.textContent = code.textContent.replaceAll("http://127.0.0.1:8080", base);
}

function request(form) {
  let path = form.dataset.path;
  const query = new URLSearchParams(), headers = {}, method = form.dataset.method;
  for (const { name, value, dataset } of form.querySelectorAll("[data-place]")) {
    if (dataset.place === "path") path = path.replace(`{${name}}`, encodeURIComponent(value));
    else if (value && dataset.place === "query") query.set(name, value);
    else if (value) headers[name] = value;
  }
  if (token.value) headers.Authorization = `Bearer ${token.value}`;
  const picture = form.querySelector("[type=file]")?.files[0];
  const body = picture ?? (form.querySelector("textarea")?.value || undefined);
  if (body) headers["Content-Type"] = picture ? picture.type : "application/json";
  return [base + path + (query.size ? `?${query}` : ""), { method, headers, body }];
}

async function told(answer) {
  const media = answer.headers.get("Content-Type") ?? "";
  if (!/json|text/.test(media)) return `${(await answer.arrayBuffer()).byteLength} bytes of ${media}`;
  const text = await answer.text();
  return /json/.test(media) && text ? JSON.stringify(JSON.parse(text), null, 2) : text;
}

async function send(event) {
  event.preventDefault();
  const form = event.target, button = form.querySelector("button"), out = form.querySelector("output pre");
  const began = performance.now();
  button.disabled = true;
  try {
    const answer = await fetch(...request(form));
    const took = Math.round(performance.now() - began);
    out.textContent = `${answer.status} ${answer.statusText}, ${took} ms\n\n${(await told(answer)).slice(0, 20000)}`;
  } catch (error) {
    out.textContent = `No answer: ${error.message}`;
  }
  out.hidden = false;
  button.disabled = false;
}

for (const form of base ? document.querySelectorAll(".try") : []) {
  form.hidden = false;
  form.addEventListener("submit", send);
}
document.querySelector(".token").hidden = !base;
for (const link of document.querySelectorAll(".menu a")) {
  link.addEventListener("click", () => { document.querySelector(".menu").open = false; });
}
