// SPDX-License-Identifier: GPL-2.0-or-later
// Reads the Terraform modules and judges them: syntax (HCL's own parser), form (schemas), references, README.
// usage: node check.js MODULE...
'use strict';
const fs = require('fs');
const path = require('path');
const Ajv = require('ajv');
const { parse } = require('@cdktf/hcl2json');

const HERE = __dirname;
const problems = [];
const ajv = new Ajv({ allErrors: true, strict: false });

function problem(where, what) {
  problems.push(`${where}: ${what}`);
}

function schema(name) {
  return ajv.compile(JSON.parse(fs.readFileSync(path.join(HERE, name), 'utf8')));
}

function judge(where, validate, value) {
  if (!validate(value))
    for (const error of validate.errors) problem(where, `${error.instancePath || '/'} ${error.message} ${JSON.stringify(error.params)}`);
}

function files(folder) {
  return fs.readdirSync(folder).filter((name) => name.endsWith('.tf')).sort();
}

// All files of a module as one object; a block that two files define is a problem.
async function read(folder) {
  const all = {};
  for (const name of files(folder)) {
    const where = path.join(folder, name);
    const text = fs.readFileSync(where, 'utf8');
    layout(where, text);
    let parsed;
    try {
      parsed = await parse(where, text);
    } catch (error) {
      problem(where, String(error.message || error).trim());
      continue;
    }
    merge(where, all, parsed);
  }
  return all;
}

function merge(where, into, from) {
  for (const [key, value] of Object.entries(from)) {
    if (!(key in into)) into[key] = value;
    else if (Array.isArray(value)) into[key] = into[key].concat(value);
    else
      for (const [name, block] of Object.entries(value)) {
        if (!(name in into[key])) into[key][name] = block;
        else if (key === 'resource' || key === 'data') merge(where, { [name]: into[key][name] }, { [name]: block });
        else problem(where, `${key} ${name} is there twice`);
      }
  }
}

// What `terraform fmt` would change, as far as it is seen without it: indentation, tabs, ends of lines, aligned "=".
function layout(where, text) {
  let depth = 0;
  let run = [];
  const check = () => {
    const columns = new Set(run.map((entry) => entry.column));
    if (columns.size > 1) problem(where, `"=" not aligned in lines ${run[0].number} to ${run[run.length - 1].number}`);
    run = [];
  };
  text.split('\n').forEach((line, index) => {
    const number = index + 1;
    if (/\t/.test(line) || /\s$/.test(line)) problem(`${where}:${number}`, 'a tab, or blanks at the end');
    const bare = line.replace(/"(\\.|[^"\\])*"/g, '""').replace(/#.*/, '');
    const closing = /^\s*[\]})]/.test(bare) ? 1 : 0;
    if (line.trim() && line.match(/^ */)[0].length !== 2 * (depth - closing)) problem(`${where}:${number}`, 'indentation');
    const opened = (bare.match(/[[{(]/g) || []).length - (bare.match(/[\]})]/g) || []).length;
    const assignment = /^( *"?[\w"]+"? *)= /.exec(line);
    // A value of several lines ends an alignment, as an empty line does.
    if (assignment && opened === 0) run.push({ number, column: assignment[1].length });
    else check();
    depth += opened > 0 ? 1 : opened < 0 ? -1 : 0;
  });
  check();
  if (!text.endsWith('\n') || text.endsWith('\n\n')) problem(where, 'has to end with one newline');
}

// Every var., local., data. and resource that is referred to exists; every variable and local is used.
function references(where, module) {
  const text = JSON.stringify({ ...module, variable: undefined });
  const inVariables = JSON.stringify(module.variable || {});
  const locals = Object.assign({}, ...(module.locals || [{}]));
  const used = (pattern, source) => new Set([...source.matchAll(pattern)].map((match) => match[1]));
  const variables = used(/\bvar\.(\w+)/g, text);
  for (const name of [...variables, ...used(/\bvar\.(\w+)/g, inVariables)])
    if (!(name in (module.variable || {}))) problem(where, `var.${name} is not declared`);
  for (const name of Object.keys(module.variable || {})) if (!variables.has(name)) problem(where, `variable ${name} is not used`);
  const localsUsed = used(/\blocal\.(\w+)/g, text);
  for (const name of localsUsed) if (!(name in locals)) problem(where, `local.${name} is not defined`);
  for (const name of Object.keys(locals)) if (!localsUsed.has(name)) problem(where, `local ${name} is not used`);
  for (const [, type, name] of text.matchAll(/\bdata\.(aws_\w+)\.(\w+)/g))
    if (!module.data?.[type]?.[name]) problem(where, `data.${type}.${name} is not there`);
  for (const [, type, name] of text.matchAll(/(?<!data\.)\b(aws_\w+)\.(\w+)/g))
    if (!module.resource?.[type]?.[name]) problem(where, `${type}.${name} is not there`);
  for (const [, name] of text.matchAll(/\bmodule\.(\w+)/g)) if (!module.module?.[name]) problem(where, `module.${name} is not there`);
}

// What templatefile() is given is what the template asks for.
function template(where, folder, module) {
  // Expressions are kept as they stand in the file.
  const given = Object.values(Object.assign({}, ...(module.locals || []))).filter((value) => typeof value === 'string').join('\n');
  const match = /templatefile\("\$\{local\.cloud_init\}\/([\w.]+)", \{([\s\S]*?)\n\s*\}\)/.exec(given);
  if (!match) return problem(where, 'no templatefile() of the user-data');
  const text = fs.readFileSync(path.join(folder, '../../cloud-init', match[1]), 'utf8');
  const wanted = new Set([...text.matchAll(/\$\{(\w+)\}/g)].map((found) => found[1]));
  const passed = new Set([...match[2].matchAll(/^\s*(\w+)\s*=/gm)].map((found) => found[1]));
  for (const name of wanted) if (!passed.has(name)) problem(where, `templatefile() lacks ${name}`);
  for (const name of passed) if (!wanted.has(name)) problem(where, `templatefile() passes ${name}, which ${match[1]} does not use`);
  for (const [, file] of given.matchAll(/filebase64\("\$\{local\.cloud_init\}\/([\w.-]+)"\)/g))
    if (!fs.existsSync(path.join(folder, '../../cloud-init', file))) problem(where, `there is no deploy/cloud-init/${file}`);
}

// README.md has a row for each input and output, with its default or the word required.
function readme(folder, module) {
  const where = path.join(folder, 'README.md');
  const text = fs.readFileSync(where, 'utf8');
  const rows = new Set([...text.matchAll(/^\| `(\w+)` \|/gm)].map((match) => match[1]));
  const wanted = [...Object.keys(module.variable), ...Object.keys(module.output)];
  for (const name of wanted) if (!rows.has(name)) problem(where, `no row for ${name}`);
  for (const name of rows) if (!wanted.includes(name)) problem(where, `${name} is neither input nor output`);
  for (const [name, [block]] of Object.entries(module.variable)) {
    const row = text.split('\n').find((line) => line.startsWith(`| \`${name}\` |`)) || '';
    if ('default' in block === /\| required \|/.test(row)) problem(where, `${name}: required, or not?`);
  }
}

// The module is called with inputs that it has, all required ones among them.
function example(folder, called, module, complete) {
  const where = path.join(folder, 'main.tf');
  references(where, called);
  const [block] = called.module.pair;
  const given = Object.keys(block).filter((name) => name !== 'source');
  if (block.source !== '../..') problem(where, `source is ${block.source}`);
  for (const name of given) if (!(name in module.variable)) problem(where, `the module has no input ${name}`);
  for (const [name, [variable]] of Object.entries(module.variable))
    if (!given.includes(name) && (complete || !('default' in variable))) problem(where, `lacks ${name}`);
  for (const [, output] of JSON.stringify(called.output || {}).matchAll(/module\.pair\.(\w+)/g))
    if (!(output in module.output)) problem(where, `the module has no output ${output}`);
}

async function main(folders) {
  const form = schema('module.schema.json');
  for (const folder of folders) {
    const provider = schema(`${path.basename(folder)}.schema.json`);
    const expected = ['main.tf', 'outputs.tf', 'variables.tf', 'versions.tf'];
    if (files(folder).join() !== expected.join()) problem(folder, `has ${files(folder)}, not ${expected}`);
    const module = await read(folder);
    judge(folder, form, module);
    judge(folder, provider, module);
    references(folder, module);
    template(folder, folder, module);
    readme(folder, module);
    for (const name of ['simple', 'complete']) {
      const at = path.join(folder, 'examples', name);
      example(at, await read(at), module, name === 'complete');
    }
  }
  for (const line of problems) console.log(line);
  console.log(`${folders.length} modules, ${problems.length} problems`);
  return problems.length ? 1 : 0;
}

main(process.argv.slice(2)).then(
  (code) => process.exit(code),
  (error) => {
    console.error(error);
    process.exit(1);
  },
);
