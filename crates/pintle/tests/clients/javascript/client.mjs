// Kubernetes' official JavaScript client: typed API, generic objects, watch, informer, patches, custom resources.

import assert from 'node:assert/strict';
import * as k8s from '@kubernetes/client-node';

const NAMESPACE = 'javascript';
const config = new k8s.KubeConfig();
config.loadFromDefault();
const core = config.makeApiClient(k8s.CoreV1Api);
const apps = config.makeApiClient(k8s.AppsV1Api);
const extensions = config.makeApiClient(k8s.ApiextensionsV1Api);
const custom = config.makeApiClient(k8s.CustomObjectsApi);
const objects = k8s.KubernetesObjectApi.makeApiClient(config);

/** The Status with which a call is refused. */
async function refused(code, call) {
  try {
    await call;
  } catch (error) {
    assert.equal(error.code, code, `${error}`);
    const body = typeof error.body === 'string' ? JSON.parse(error.body) : error.body;
    assert.equal(body.code, code);
    return body;
  }
  assert.fail(`should have been refused with ${code}`);
}

/** Resolves with the first value that `found` says yes to, within the time. */
function within(seconds, what, start) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`${what}: not within ${seconds} s`)), seconds * 1000);
    start((value) => {
      clearTimeout(timer);
      resolve(value);
    }, reject);
  });
}

async function configMaps() {
  const body = { metadata: { name: 'one', labels: { app: 'x' } }, data: { a: '1' } };
  const made = await core.createNamespacedConfigMap({ namespace: NAMESPACE, body });
  assert.ok(made.metadata.creationTimestamp instanceof Date && made.metadata.uid);
  const read = await core.readNamespacedConfigMap({ namespace: NAMESPACE, name: 'one' });
  assert.deepEqual(read.data, { a: '1' });
  read.data.b = '2';
  await core.replaceNamespacedConfigMap({ namespace: NAMESPACE, name: 'one', body: read });
  const stale = await refused(409, core.replaceNamespacedConfigMap({ namespace: NAMESPACE, name: 'one', body: made }));
  assert.equal(stale.reason, 'Conflict');
  const missing = await refused(404, core.readNamespacedConfigMap({ namespace: NAMESPACE, name: 'two' }));
  assert.equal(missing.message, 'configmaps "two" not found');
  const wrong = await refused(
    422,
    core.createNamespacedConfigMap({ namespace: NAMESPACE, body: { metadata: { name: 'Not_A_Name' } } }),
  );
  assert.equal(wrong.details.causes[0].field, 'metadata.name');

  const patch = (strategy, body, more = {}) =>
    core.patchNamespacedConfigMap(
      { namespace: NAMESPACE, name: 'one', body, ...more },
      k8s.setHeaderOptions('Content-Type', strategy),
    );
  const json = await patch(k8s.PatchStrategy.JsonPatch, [{ op: 'replace', path: '/data/a', value: '9' }]);
  assert.equal(json.data.a, '9');
  const merged = await patch(k8s.PatchStrategy.MergePatch, { data: { b: null } });
  assert.deepEqual(merged.data, { a: '9' });
  const strategic = await patch(k8s.PatchStrategy.StrategicMergePatch, { metadata: { labels: { more: 'y' } } });
  assert.deepEqual(strategic.metadata.labels, { app: 'x', more: 'y' });
  const apply = { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'one' }, data: { a: '10' } };
  const conflict = await refused(409, patch(k8s.PatchStrategy.ServerSideApply, apply, { fieldManager: 'js' }));
  assert.equal(conflict.details.causes[0].reason, 'FieldManagerConflict');
  const forced = await patch(k8s.PatchStrategy.ServerSideApply, apply, { fieldManager: 'js', force: true });
  assert.equal(forced.data.a, '10');
  assert.ok(forced.metadata.managedFields.some((entry) => entry.manager === 'js' && entry.operation === 'Apply'));
}

async function pages() {
  for (let number = 0; number < 7; number += 1) {
    await core.createNamespacedConfigMap({ namespace: NAMESPACE, body: { metadata: { name: `p${number}`, labels: { page: 'y' } } } });
  }
  const names = [];
  let token;
  do {
    const page = await core.listNamespacedConfigMap({ namespace: NAMESPACE, limit: 3, _continue: token, labelSelector: 'page=y' });
    names.push(...page.items.map((item) => item.metadata.name));
    token = page.metadata._continue;
  } while (token);
  assert.deepEqual(names, ['p0', 'p1', 'p2', 'p3', 'p4', 'p5', 'p6']);
  await core.deleteCollectionNamespacedConfigMap({ namespace: NAMESPACE, labelSelector: 'page=y' });
  assert.equal((await core.listNamespacedConfigMap({ namespace: NAMESPACE, labelSelector: 'page=y' })).items.length, 0);
}

async function watches() {
  const { resourceVersion } = (await core.listNamespacedSecret({ namespace: NAMESPACE })).metadata;
  const path = `/api/v1/namespaces/${NAMESPACE}/secrets`;
  const seen = [];
  const ended = within(30, 'the watch', (resolve, reject) => {
    new k8s.Watch(config)
      .watch(
        path,
        { resourceVersion },
        (type, object) => {
          seen.push([type, object.metadata.name]);
          if (type === 'DELETED') resolve();
        },
        (error) => error && error.name !== 'AbortError' && reject(error),
      )
      .then((request) => ended.finally(() => request.abort()).catch(() => {}));
  });
  await core.createNamespacedSecret({ namespace: NAMESPACE, body: { metadata: { name: 's' }, stringData: { a: 'b' } } });
  await core.deleteNamespacedSecret({ namespace: NAMESPACE, name: 's' });
  await ended;
  assert.deepEqual(seen, [['ADDED', 's'], ['DELETED', 's']]);
}

async function informer() {
  const list = () => core.listNamespacedConfigMap({ namespace: NAMESPACE });
  const cache = k8s.makeInformer(config, `/api/v1/namespaces/${NAMESPACE}/configmaps`, list);
  const added = within(30, 'the informer', (resolve, reject) => {
    cache.on('add', (object) => object.metadata.name === 'late' && resolve(object));
    cache.on('error', reject);
  });
  await cache.start();
  assert.ok(cache.get('one', NAMESPACE));
  await core.createNamespacedConfigMap({ namespace: NAMESPACE, body: { metadata: { name: 'late' } } });
  await added;
  await cache.stop();
}

async function genericObjects() {
  const spec = {
    apiVersion: 'apps/v1',
    kind: 'Deployment',
    metadata: { name: 'web', namespace: NAMESPACE },
    spec: {
      replicas: 1,
      selector: { matchLabels: { app: 'web' } },
      template: {
        metadata: { labels: { app: 'web' } },
        spec: { containers: [{ name: 'web', image: 'example/web:1', ports: [{ containerPort: 80 }] }] },
      },
    },
  };
  const made = await objects.create(spec);
  assert.equal(made.spec.strategy.type, 'RollingUpdate');
  const patched = await objects.patch({ ...spec, spec: { replicas: 2 } });
  assert.equal(patched.spec.replicas, 2);
  const listed = await objects.list('apps/v1', 'Deployment', NAMESPACE);
  assert.equal(listed.items.length, 1);
  const scale = await apps.readNamespacedDeploymentScale({ namespace: NAMESPACE, name: 'web' });
  assert.equal(scale.spec.replicas, 2);
  await objects.delete(spec);
}

async function customResources() {
  const group = 'javascript.example.com';
  const definition = {
    apiVersion: 'apiextensions.k8s.io/v1',
    kind: 'CustomResourceDefinition',
    metadata: { name: `kites.${group}` },
    spec: {
      group,
      scope: 'Namespaced',
      names: { plural: 'kites', singular: 'kite', kind: 'Kite' },
      versions: [
        {
          name: 'v1',
          served: true,
          storage: true,
          subresources: { status: {} },
          schema: {
            openAPIV3Schema: {
              type: 'object',
              properties: {
                spec: { type: 'object', properties: { span: { type: 'integer', minimum: 1 } }, required: ['span'] },
                status: { type: 'object', 'x-kubernetes-preserve-unknown-fields': true },
              },
            },
          },
        },
      ],
    },
  };
  await extensions.createCustomResourceDefinition({ body: definition });
  await within(30, 'the definition', (resolve, reject) => {
    new k8s.Watch(config).watch(
      '/apis/apiextensions.k8s.io/v1/customresourcedefinitions',
      { fieldSelector: `metadata.name=kites.${group}` },
      (_type, object) => {
        const conditions = object.status?.conditions ?? [];
        if (conditions.some((condition) => condition.type === 'Established' && condition.status === 'True')) resolve();
      },
      (error) => error && error.name !== 'AbortError' && reject(error),
    );
  });
  const place = { group, version: 'v1', namespace: NAMESPACE, plural: 'kites' };
  const kite = { apiVersion: `${group}/v1`, kind: 'Kite', metadata: { name: 'red' }, spec: { span: 2 } };
  const made = await custom.createNamespacedCustomObject({ ...place, body: kite });
  assert.equal(made.metadata.generation, 1);
  const bad = { ...kite, metadata: { name: 'bad' }, spec: { span: 0 } };
  const wrong = await refused(422, custom.createNamespacedCustomObject({ ...place, body: bad }));
  assert.equal(wrong.details.causes[0].field, 'spec.span');
  const patched = await custom.patchNamespacedCustomObject(
    { ...place, name: 'red', body: { spec: { span: 3 } } },
    k8s.setHeaderOptions('Content-Type', k8s.PatchStrategy.MergePatch),
  );
  assert.equal(patched.spec.span, 3);
  const applied = await objects.patch(
    { ...kite, metadata: { name: 'blue', namespace: NAMESPACE } },
    undefined,
    undefined,
    'js',
    true,
    k8s.PatchStrategy.ServerSideApply,
  );
  assert.equal(applied.metadata.name, 'blue');
  const listed = await custom.listNamespacedCustomObject(place);
  assert.deepEqual(listed.items.map((item) => item.metadata.name), ['blue', 'red']);
  await custom.deleteNamespacedCustomObject({ ...place, name: 'red' });
  await refused(404, custom.getNamespacedCustomObject({ ...place, name: 'red' }));
  await extensions.deleteCustomResourceDefinition({ name: `kites.${group}` });
}

await core.createNamespace({ body: { metadata: { name: NAMESPACE } } });
await configMaps();
await pages();
await watches();
await informer();
await genericObjects();
await customResources();
await core.deleteNamespace({ name: NAMESPACE });
console.log('done');
process.exit(0);
