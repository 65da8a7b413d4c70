// Measures the page of a report as a person would see it.
(() => {
    const all = (selector, of = document) => [...of.querySelectorAll(selector)];
    const box = element => element.getBoundingClientRect();

    // The colour behind an element: of the nearest one around it that has any.
    const behind = element => {
        for (; element; element = element.parentElement) {
            const colour = getComputedStyle(element).backgroundColor;
            if (!/, 0\)$/.test(colour)) return colour;
        }
        return "rgb(255, 255, 255)";
    };
    // Relative luminance and contrast as WCAG 2 has them.
    const luminance = colour => {
        const parts = colour.match(/[\d.]+/g).slice(0, 3).map(part => part / 255);
        const [r, g, b] = parts.map(part => part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const contrast = (one, other) => {
        const [light, dark] = [luminance(one), luminance(other)].sort((a, b) => b - a);
        return (light + 0.05) / (dark + 0.05);
    };
    const hasText = element => [...element.childNodes].some(node => node.nodeType === 3 && node.data.trim());

    // The window without the scroll bar.
    const room = document.documentElement.clientWidth;
    const shown = all("body, body *").filter(element => box(element).width > 0 && !element.closest("svg *"));
    return {
        width: innerWidth,
        room,
        whole: document.documentElement.scrollWidth,
        wide: shown.filter(element => !element.closest(".scroll *") && box(element).right > room + 0.5)
            .map(element => element.outerHTML.slice(0, 120)),
        faint: shown.filter(element => hasText(element)
            && contrast(getComputedStyle(element).color, behind(element)) < 4.5)
            .map(element => element.outerHTML.slice(0, 120)),
        background: behind(document.body),
        rows: Object.fromEntries(all("tr[id]").filter(row => box(row).height > 0)
            .map(row => [row.id.replace("step-", ""), all(".badge", row)[0].innerText])),
        about: Object.fromEntries(all("tr[id]").map(row => [row.id.replace("step-", ""), row.cells[1].innerText])),
        legend: all(".legend > span").map(entry => entry.innerText.trim()),
        colours: Object.fromEntries(all("tr[id] .badge").map(badge => [badge.innerText, behind(badge)])),
        fresh: all(".fresh a").map(link => [link.innerText, link.hash, behind(link)]),
        axis: all(".time").map(axis => [box(axis).left, box(axis).right])[0],
        lanes: all(".lane").map(lane => all(".bar", lane).map(bar => {
            const { left, right, top, bottom } = box(bar);
            return { name: bar.innerText, hash: bar.hash, colour: behind(bar), left, right, top, bottom };
        })),
        graph: all("svg text").map(text => text.textContent),
        logs: all(".log details").map(details => {
            const pre = details.querySelector("pre");
            const before = [details.open, pre.checkVisibility()];
            details.querySelector("summary").click();
            const after = [details.open, pre.checkVisibility()];
            return { before, after, text: pre.textContent };
        }),
    };
})()
