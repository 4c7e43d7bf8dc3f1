// The published JavaScript client, used as its users use it. Needs no node.
// Run with KUBECONFIG set; ends with "ok" or with what was not as expected.
import assert from 'node:assert/strict';
import * as k8s from '@kubernetes/client-node';

const NAMESPACE = 'node-client';
const STEP_MAX_MS = 20_000;

const config = new k8s.KubeConfig();
config.loadFromDefault();
const core = config.makeApiClient(k8s.CoreV1Api);
const apps = config.makeApiClient(k8s.AppsV1Api);
const custom = config.makeApiClient(k8s.CustomObjectsApi);
const extensions = config.makeApiClient(k8s.ApiextensionsV1Api);
const objects = k8s.KubernetesObjectApi.makeApiClient(config);

async function until(what, probe) {
  const end = Date.now() + STEP_MAX_MS;
  while (Date.now() < end) {
    const found = await probe();
    if (found) return found;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new Error(`not in ${STEP_MAX_MS} ms: ${what}`);
}

async function refused(code, call) {
  try {
    await call();
  } catch (error) {
    assert.equal(error.code, code, `${error.code} instead of ${code}: ${error.body}`);
    return JSON.parse(error.body);
  }
  throw new Error(`a call succeeded; ${code} was expected`);
}

async function basics() {
  const version = await config.makeApiClient(k8s.VersionApi).getCode();
  assert.equal(version.major, '1');
  await core.createNamespace({ body: { metadata: { name: NAMESPACE } } });
  const taken = await refused(409, () => core.createNamespace({ body: { metadata: { name: NAMESPACE } } }));
  assert.equal(taken.reason, 'AlreadyExists');
  await until('the service account', async () => (await core.listNamespacedServiceAccount({ namespace: NAMESPACE })).items.length);
}

async function informer() {
  const seen = [];
  const list = () => core.listNamespacedConfigMap({ namespace: NAMESPACE });
  const watched = k8s.makeInformer(config, `/api/v1/namespaces/${NAMESPACE}/configmaps`, list);
  for (const what of ['add', 'update', 'delete']) watched.on(what, (object) => seen.push(`${what} ${object.metadata.name}`));
  await watched.start();
  await core.createNamespacedConfigMap({ namespace: NAMESPACE, body: { metadata: { name: 'seen' }, data: { a: '1' } } });
  await until('it is added', () => seen.includes('add seen'));
  await core.patchNamespacedConfigMap({ namespace: NAMESPACE, name: 'seen', body: [{ op: 'replace', path: '/data/a', value: '2' }] });
  await until('it is updated', () => seen.includes('update seen'));
  assert.equal(watched.get('seen', NAMESPACE).data.a, '2');
  await core.deleteNamespacedConfigMap({ namespace: NAMESPACE, name: 'seen' });
  await until('it is deleted', () => seen.includes('delete seen'));
  await watched.stop();
}

async function anyObject() {
  const spec = { apiVersion: 'apps/v1', kind: 'Deployment', metadata: { name: 'web', namespace: NAMESPACE }, spec: { replicas: 2, selector: { matchLabels: { app: 'web' } }, template: { metadata: { labels: { app: 'web' } }, spec: { containers: [{ name: 'web', image: 'example.com/web:1' }] } } } };
  await objects.create(spec);
  await until('two pods', async () => (await core.listNamespacedPod({ namespace: NAMESPACE, labelSelector: 'app=web' })).items.length === 2);
  const patched = await objects.patch({ ...spec, spec: { ...spec.spec, replicas: 1 } });
  assert.equal(patched.spec.replicas, 1);
  const applied = await objects.patch({ apiVersion: 'apps/v1', kind: 'Deployment', metadata: { name: 'web', namespace: NAMESPACE, labels: { by: 'apply' } } }, undefined, undefined, 'tester', true, k8s.PatchStrategy.ServerSideApply);
  assert.equal(applied.metadata.labels.by, 'apply');
  const listed = await objects.list('apps/v1', 'Deployment', NAMESPACE);
  assert.deepEqual(listed.items.map((item) => item.metadata.name), ['web']);
  const scale = await apps.readNamespacedDeploymentScale({ namespace: NAMESPACE, name: 'web' });
  assert.equal(scale.spec.replicas, 1);
  await objects.delete({ apiVersion: 'apps/v1', kind: 'Deployment', metadata: { name: 'web', namespace: NAMESPACE } });
  await until('no pods', async () => (await core.listNamespacedPod({ namespace: NAMESPACE })).items.length === 0);
}

async function customObjects() {
  const group = 'node.example.com';
  const names = { plural: 'tables', singular: 'table', kind: 'Table', listKind: 'TableList' };
  const schema = { openAPIV3Schema: { type: 'object', properties: { spec: { type: 'object', required: ['legs'], properties: { legs: { type: 'integer', minimum: 1 } }, x_kubernetes_validations: [{ rule: 'self.legs <= 8', message: 'too many legs' }] } } } };
  await extensions.createCustomResourceDefinition({ body: { metadata: { name: `tables.${group}` }, spec: { group, scope: 'Namespaced', names, versions: [{ name: 'v1', served: true, storage: true, schema }] } } });
  await until('it is served', async () => {
    try {
      return await custom.listNamespacedCustomObject({ group, version: 'v1', namespace: NAMESPACE, plural: 'tables' });
    } catch {
      return false;
    }
  });
  const table = (name, legs) => ({ apiVersion: `${group}/v1`, kind: 'Table', metadata: { name }, spec: { legs } });
  const create = (body) => custom.createNamespacedCustomObject({ group, version: 'v1', namespace: NAMESPACE, plural: 'tables', body });
  await create(table('four', 4));
  const tooMany = await refused(422, () => create(table('nine', 9)));
  assert.match(tooMany.message, /too many legs/);
  const none = await refused(422, () => create(table('none', 0)));
  assert.match(none.message, /spec\.legs in body should be greater than or equal to 1/);
  await extensions.deleteCustomResourceDefinition({ name: `tables.${group}` });
}

await basics();
await informer();
await anyObject();
await customObjects();
await core.deleteNamespace({ name: NAMESPACE });
await until('the namespace is gone', async () => {
  try {
    await core.readNamespace({ name: NAMESPACE });
    return false;
  } catch (error) {
    return error.code === 404;
  }
});
console.log('ok');
