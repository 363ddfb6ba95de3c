// The page: one feed, one model, the board and the page of a call, drawn in animation frames.

import { callPath, get, whenRefused } from "./api.js";
import { Board } from "./board.js";
import { CallPage } from "./call_page.js";
import { Calls } from "./calls.js";
import * as connection from "./connection.js";
import { find } from "./elements.js";
import { Feed } from "./feed.js";
import * as key from "./key.js";
import * as keyboard from "./keyboard.js";
import { Lock } from "./lock.js";
import * as place from "./place.js";
import { Poll } from "./poll.js";
import { counted } from "./words.js";

const HIDDEN_PATIENCE = 10_000; // a glance at another tab is no reason to let go
const TICK = 500;
const CHECK_INTERVAL = 15_000;
const CATCHING_UP = 1_000; // what comes so soon after a reconnect happened before it

const calls = new Calls();
const lock = new Lock({ onLock, onUnlock });
const feed = new Feed({ onFrame, onState, onKeyEnded: () => lock.end(), check });
const board = new Board(calls, { onFilter });
const callPage = new CallPage(find("call"), { back: () => place.urlOf({ ...place.read(), callId: null }) });
const stillOpen = new Poll(check, CHECK_INTERVAL); // while calls are on the screen and nothing else asks

let maximum = null; // attempts that the server's policy allows
let isAskingMaximum = false;
let isPaused = false;
let isAway = false; // paused because nobody looks
let isFrameAsked = false;
let boardScroll = 0;
let caughtUp = null; // events since a reconnect
let hasLoaded = false; // the first snapshot has come: another one means that events were missed
let hadFocus = false; // something of what was hidden when a key was asked for
let hiding = 0; // the timer of a tab that was hidden just now

function onFrame(frame) {
  if (frame.type === "snapshot") {
    loaded(calls.applySnapshot(frame));
  } else if (frame.type === "gap") {
    caughtUp = null;
    connection.notice("Events were missed, reloading…", { stays: true, of: "gap" });
  } else if (frame.type === "ai_step") {
    board.showStep(frame.state);
  } else {
    callPage.notice(frame.call_id);
    if (calls.applyEvent(frame)) heard(frame);
  }
  askFrame();
}

function loaded(missed) {
  if (missed === null) return;
  if (hasLoaded) connection.notice(`${counted(missed, "event was", "events were")} missed; the page is up to date again.`);
  hasLoaded = true;
  askMaximum();
}

function heard(event) {
  if (caughtUp !== null && performance.now() - feed.openedAt < CATCHING_UP) caughtUp += 1;
  if (maximum === null && event.attempt) askMaximum(event.call_id);
}

function onState(state) {
  connection.show(state);
  if (!["live", "degraded"].includes(state.name)) board.showStep("open"); // a new connection tells it anew
  if (state.name === "live") {
    if (calls.isStaging) calls.dropStaged();
    catchUp();
  }
}

function catchUp() {
  if (!calls.isLoaded) return;
  caughtUp = 0;
  setTimeout(() => {
    if (caughtUp) connection.notice(`Caught up: ${counted(caughtUp, "event")} while away.`);
    caughtUp = null;
  }, CATCHING_UP);
}

/** Find out by a request whether the server lets this page in; what is to be done about a key is done by then. */
async function check() {
  try {
    await get("v1/stats");
  } catch ({ status, needsKey, isOfOtherCalls, message }) {
    if (status === 403 && !needsKey && !isOfOtherCalls) feed.stop(`The server refuses this page: ${message}.`);
  }
}

/** Keep nothing that somebody without a key could read; where the page stands is in its URL. */
function onLock() {
  hadFocus = document.activeElement.closest("main") !== null;
  feed.lock();
  calls.clear();
  board.clear();
  connection.close();
  hasLoaded = false;
  maximum = caughtUp = null;
  boardScroll = 0;
  setPaused(false);
  show();
}

function onUnlock() {
  sleepOrWake();
  show();
  if (hadFocus || !document.activeElement.checkVisibility()) find("board-title").focus({ preventScroll: true });
}

/** Learn how many attempts there are from any call; the policy is the server's. */
async function askMaximum(callId = [...calls.values()].find((call) => call.attempt)?.call_id) {
  if (maximum !== null || isAskingMaximum || callId === undefined) return;
  isAskingMaximum = true;
  try {
    maximum = (await get(callPath(callId))).max_attempts ?? null;
    board.tick(maximum);
  } catch {
    // the next event asks again
  } finally {
    isAskingMaximum = false;
  }
}

function onFilter({ states, text }) {
  place.keep({ ...place.read(), states, text });
  board.filter({ states, text });
  askFrame();
}

/** Show what the URL says. */
function show() {
  const { states, text, callId } = place.read();
  board.filter({ states, text });
  if (lock.isLocked) return void showNothing();
  if (callId === null) showBoard();
  else openCall(callId);
  document.title = callId === null ? "Calls · callactors" : `${callId} · callactors`;
  askFrame();
}

function showNothing() {
  find("board").hidden = true;
  callPage.close();
  document.title = "Key needed · callactors";
}

function showBoard() {
  const last = callPage.callId;
  find("board").hidden = false;
  callPage.close();
  if (last === null) return;
  window.scrollTo(0, boardScroll);
  links().find((link) => link.dataset.call === last)?.focus({ preventScroll: true });
}

function openCall(callId) {
  if (!find("board").hidden) boardScroll = window.scrollY;
  find("board").hidden = true;
  callPage.open(callId);
  window.scrollTo(0, 0);
}

function goBack() {
  if (history.state?.isInside) return history.back();
  place.go({ ...place.read(), callId: null });
  return show();
}

function links() {
  return [...find("calls").querySelectorAll("tbody a")];
}

function stepBack(isTyping) {
  if (lock.isLocked) return;
  if (isTyping) {
    board.clearSearch();
    find("search").blur();
  } else if (place.read().callId !== null) {
    goBack();
  }
}

function follow(event) {
  const isPlain = event.button === 0 && !(event.ctrlKey || event.metaKey || event.shiftKey || event.altKey);
  const link = event.target.closest?.("a[data-call], a[data-back]");
  const row = event.target.closest?.("tr[data-id]");
  if (!isPlain || (!link && !row) || String(getSelection())) return;
  event.preventDefault();
  if (link?.matches("[data-back]")) return void goBack();
  place.go({ ...place.read(), callId: link?.dataset.call ?? row.dataset.id });
  show();
}

/** Pause or go on, as the button, the tab and the connection have it. */
function sleepOrWake() {
  const isAwake = !isPaused && !isAway && !lock.isLocked && feed.state.name !== "stopped";
  board.wake(isAwake);
  callPage.wake(isAwake);
  if (!isAwake && !isAway && !lock.isLocked && key.current() !== null) stillOpen.start();
  else stillOpen.stop();
  if (isAwake) feed.start();
  else if (!lock.isLocked && feed.state.name !== "stopped") feed.pause(isPaused ? "" : "The tab is hidden.");
}

function setPaused(value) {
  isPaused = value;
  find("pause").setAttribute("aria-pressed", String(isPaused));
  find("pause").textContent = isPaused ? "Resume" : "Pause";
  sleepOrWake();
}

function onVisibility() {
  clearTimeout(hiding);
  if (document.hidden) hiding = setTimeout(() => setAway(true), HIDDEN_PATIENCE);
  else setAway(false);
}

function setAway(value) {
  if (isAway === value) return;
  isAway = value;
  sleepOrWake();
}

function connectNow() {
  feed.start();
  sleepOrWake();
}

function askFrame() {
  if (isFrameAsked) return;
  isFrameAsked = true;
  requestAnimationFrame(draw);
}

function draw(time) {
  isFrameAsked = false;
  if (find("board").hidden) return;
  board.render(time, maximum);
  if (board.isWaiting) askFrame();
}

function tick() {
  connection.tick(feed.state);
  if (document.hidden || isPaused) return;
  if (find("board").hidden) callPage.tick(maximum);
  else board.tick(maximum);
  askFrame();
}

whenRefused((problem) => lock.refuse(problem));
keyboard.bind({ search: find("search"), isBoard: () => !find("board").hidden, links, back: stepBack });
document.addEventListener("click", follow);
document.addEventListener("visibilitychange", onVisibility);
window.addEventListener("popstate", show);
window.addEventListener("online", () => feed.state.name === "reconnecting" && feed.start());
find("pause").addEventListener("click", () => setPaused(!isPaused));
find("connect").addEventListener("click", connectNow);
find("notice-close").addEventListener("click", connection.close);
setInterval(tick, TICK);
sleepOrWake();
show();
onVisibility();
