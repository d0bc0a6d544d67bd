"use strict";
// What the page holds is compressed: data, unpacked when they are about to be seen, and tables to save.
const unpack = (text) => {
  const gunzip = new DecompressionStream("gzip");
  const writer = gunzip.writable.getWriter();
  writer.write(Uint8Array.from(atob(text), (character) => character.charCodeAt(0)));
  writer.close();
  return new Response(gunzip.readable);
};

// Shows a section, and calls `begin` with its data when it is near the window, or at once if an address leads into it.
const whenSeen = (section, isAddressed, begin) => {
  if (!window.DecompressionStream) return;
  section.hidden = false;
  let begun = false;
  const start = async () => {
    if (begun) return;
    begun = true;
    seen.disconnect();
    window.removeEventListener("popstate", follow);
    const packed = section.querySelector("script");
    const data = await unpack(packed.textContent).json();
    packed.remove();
    begin(data);
  };
  const follow = () => { if (isAddressed(location.hash)) start(); };
  const seen = new IntersectionObserver((entries) => { if (entries.some((entry) => entry.isIntersecting)) start(); }, { rootMargin: "600px" });
  seen.observe(section);
  window.addEventListener("popstate", follow);
  follow();
};

// Browsers that can unpack tables save plain CSV.
document.addEventListener("click", async (event) => {
  const link = event.target.closest("a[download]");
  if (!link || !link.href.startsWith("data:application/gzip") || !window.DecompressionStream) return;
  event.preventDefault();
  const saved = document.createElement("a");
  const plain = await unpack(link.href.slice(link.href.indexOf(",") + 1)).arrayBuffer();
  saved.href = URL.createObjectURL(new Blob([plain], { type: "text/csv" }));
  saved.download = link.download.replace(/\.gz$/, "");
  saved.click();
  setTimeout(() => URL.revokeObjectURL(saved.href), 60000);
});
