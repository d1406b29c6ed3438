{{- define "auditferry.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "auditferry.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" }}
{{- else }}
{{- $name := include "auditferry.name" . }}
{{- if contains $name .Release.Name }}
{{- .Release.Name | trunc 63 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 63 | trimSuffix "-" }}
{{- end }}
{{- end }}
{{- end }}

{{- define "auditferry.selectorLabels" -}}
app.kubernetes.io/name: {{ include "auditferry.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "auditferry.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "auditferry.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "auditferry.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "auditferry.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "auditferry.image" -}}
{{- $image := .Values.image }}
{{- $repository := $image.repository }}
{{- if $image.registry }}{{ $repository = printf "%s/%s" $image.registry $image.repository }}{{ end }}
{{- if $image.digest }}
{{- printf "%s@%s" $repository $image.digest }}
{{- else }}
{{- printf "%s:%s" $repository (default .Chart.AppVersion $image.tag) }}
{{- end }}
{{- end }}

{{- define "auditferry.configMapName" -}}
{{- default (include "auditferry.fullname" .) .Values.existingConfigMap }}
{{- end }}

{{- /* The port of admin.listen: what probes, Service and monitors name http-metrics. */ -}}
{{- define "auditferry.port" -}}
{{- $listen := dig "admin" "listen" "" .Values.config | toString }}
{{- $port := regexFind "[0-9]+$" $listen }}
{{- if not $port }}{{ fail (printf "config.admin.listen: `%s` has no port; the probes need one, for example 0.0.0.0:9464" $listen) }}{{ end }}
{{- if or (hasPrefix "127." $listen) (hasPrefix "localhost:" $listen) (hasPrefix "[::1]" $listen) }}{{ fail (printf "config.admin.listen: `%s` is not reachable from outside the pod, so no probe would ever succeed; write 0.0.0.0:%s" $listen $port) }}{{ end }}
{{- $port }}
{{- end }}

{{- /* What cannot be said in the schema. */ -}}
{{- define "auditferry.check" -}}
{{- if not .Values.existingConfigMap }}
{{- if not (or .Values.config.tenants .Values.config.tenants_from) }}
{{- fail "config.tenants: give at least one tenant (name, tenant_id, client_id, auth), or existingConfigMap; `helm show values` has an example" }}
{{- end }}
{{- if not .Values.config.sinks }}
{{- fail "config.sinks: give at least one sink (name, type, …), or existingConfigMap; `helm show values` has an example" }}
{{- end }}
{{- end }}
{{- if and .Values.workloadIdentity.enabled (not .Values.workloadIdentity.clientId) }}
{{- fail "workloadIdentity.clientId: give the client id of the app registration or managed identity that is federated" }}
{{- end }}
{{- if and .Values.workloadIdentity.projectedToken (not .Values.workloadIdentity.tenantId) }}
{{- fail "workloadIdentity.tenantId: give it where the token is projected by the chart" }}
{{- end }}
{{- $strategy := dig "type" "" .Values.updateStrategy }}
{{- if and (eq .Values.kind "Deployment") (eq $strategy "OnDelete") }}
{{- fail "updateStrategy.type: a Deployment knows Recreate and RollingUpdate" }}
{{- end }}
{{- if and (eq .Values.kind "StatefulSet") (eq $strategy "Recreate") }}
{{- fail "updateStrategy.type: a StatefulSet knows RollingUpdate, which ends the old pod first, and OnDelete" }}
{{- end }}
{{- /* Without a type Kubernetes takes RollingUpdate. */ -}}
{{- if and (eq .Values.kind "Deployment") .Values.updateStrategy (ne $strategy "Recreate") (ne (dig "rollingUpdate" "maxSurge" "25%" .Values.updateStrategy | toString) "0") }}
{{- fail "updateStrategy.rollingUpdate.maxSurge: a new pod beside the old one cannot have its state directory, so it would never get ready; use Recreate, or maxSurge: 0" }}
{{- end }}
{{- if and .Values.podMonitor.enabled .Values.serviceMonitor.enabled }}
{{- fail "podMonitor.enabled and serviceMonitor.enabled: choose one, both would scrape the pod twice" }}
{{- end }}
{{- if and .Values.serviceMonitor.enabled (not .Values.service.enabled) }}
{{- fail "serviceMonitor.enabled: needs service.enabled" }}
{{- end }}
{{- end }}

{{- /* Environment and mounts of the container, shared with the test pod. */ -}}
{{- define "auditferry.environment" -}}
{{- $identity := .Values.workloadIdentity }}
{{- if and $identity.enabled $identity.projectedToken }}
- name: AZURE_CLIENT_ID
  value: {{ $identity.clientId | quote }}
- name: AZURE_TENANT_ID
  value: {{ $identity.tenantId | quote }}
- name: AZURE_AUTHORITY_HOST
  value: {{ $identity.authorityHost | quote }}
- name: AZURE_FEDERATED_TOKEN_FILE
  value: /var/run/secrets/azure/tokens/azure-identity-token
{{- end }}
{{- with .Values.env }}
{{ toYaml . }}
{{- end }}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "auditferry.mounts" -}}
- name: config
  mountPath: /etc/auditferry
  readOnly: true
{{- if .Values.existingSecret }}
- name: secrets
  mountPath: /run/secrets/auditferry
  readOnly: true
{{- end }}
{{- if and .Values.workloadIdentity.enabled .Values.workloadIdentity.projectedToken }}
- name: azure-identity-token
  mountPath: /var/run/secrets/azure/tokens
  readOnly: true
{{- end }}
{{- with .Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "auditferry.volumes" -}}
- name: config
  configMap:
    name: {{ include "auditferry.configMapName" . }}
{{- with .Values.existingSecret }}
- name: secrets
  secret:
    secretName: {{ . }}
    defaultMode: 288
{{- end }}
{{- if and .Values.workloadIdentity.enabled .Values.workloadIdentity.projectedToken }}
- name: azure-identity-token
  projected:
    defaultMode: 288
    sources:
      - serviceAccountToken:
          audience: api://AzureADTokenExchange
          expirationSeconds: 3600
          path: azure-identity-token
{{- end }}
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "auditferry.podSettings" -}}
serviceAccountName: {{ include "auditferry.serviceAccountName" . }}
automountServiceAccountToken: {{ .Values.serviceAccount.automountServiceAccountToken }}
enableServiceLinks: false
{{- if or .Values.image.pullSecrets .Values.imagePullSecrets }}
imagePullSecrets:
  {{- range .Values.image.pullSecrets }}
  - name: {{ . }}
  {{- end }}
  {{- with .Values.imagePullSecrets }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}
securityContext:
  {{- toYaml .Values.podSecurityContext | nindent 2 }}
{{- range $key := list "priorityClassName" "dnsPolicy" }}
{{- with index $.Values $key }}
{{ $key }}: {{ . }}
{{- end }}
{{- end }}
{{- range $key := list "nodeSelector" "tolerations" "affinity" "topologySpreadConstraints" "hostAliases" "dnsConfig" }}
{{- with index $.Values $key }}
{{ $key }}:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
{{- end }}
