{{- /* The pod, which is the same for both stores but for where the data is. */ -}}
{{- define "posthaste.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "posthaste.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{- define "posthaste.secretVariable" -}}
- name: {{ .name }}
  valueFrom:
    secretKeyRef:
      name: {{ .secret }}
      key: {{ .key }}
{{- end -}}

{{- define "posthaste.pod" -}}
{{- $secret := required "existingSecret: name a Secret with the entries master-key and admin-key, and with store postgres database-url" .Values.existingSecret -}}
metadata:
  labels:
    {{- include "posthaste.labels" . | nindent 4 }}
    {{- with .Values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with .Values.podAnnotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  serviceAccountName: {{ include "posthaste.serviceAccount" . }}
  # It does not talk to Kubernetes.
  automountServiceAccountToken: false
  enableServiceLinks: false
  {{- with .Values.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  securityContext:
    {{- include "posthaste.podSecurity" . | nindent 4 }}
  # What comes before SIGTERM, --stop-timeout, and 10 seconds for the last writes.
  terminationGracePeriodSeconds: {{ add .Values.preStopSeconds .Values.stopTimeoutSeconds 10 }}
  containers:
    - name: posthaste
      image: {{ include "posthaste.image" . }}
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      args: [serve]
      env:
        - name: POSTHASTE_ADDR
          value: ":8080"
        {{- if not (hasKey .Values.settings "metrics-addr") }}
        # Apart from what the service and the ingress pass on.
        - name: POSTHASTE_METRICS_ADDR
          value: ":9090"
        {{- end }}
        # A directory that the server makes: the volume's own may be open to its group.
        - name: POSTHASTE_DATA
          value: /data/store
        - name: POSTHASTE_STOP_TIMEOUT
          value: {{ printf "%ds" (int .Values.stopTimeoutSeconds) }}
        {{- if not (hasKey .Values.settings "log-format") }}
        - name: POSTHASTE_LOG_FORMAT
          value: json
        {{- end }}
        {{- range $flag, $value := .Values.settings }}
        - name: POSTHASTE_{{ $flag | upper | replace "-" "_" }}
          {{- if eq (kindOf $value) "float64" }}
          value: {{ printf "%v" ($value | toJson) | quote }}
          {{- else }}
          value: {{ $value | toString | quote }}
          {{- end }}
        {{- end }}
        {{- include "posthaste.secretVariable" (dict "name" "POSTHASTE_MASTER_KEY" "secret" $secret "key" "master-key") | nindent 8 }}
        {{- include "posthaste.secretVariable" (dict "name" "POSTHASTE_ADMIN_KEY" "secret" $secret "key" "admin-key") | nindent 8 }}
        {{- if eq .Values.store "postgres" }}
        {{- include "posthaste.secretVariable" (dict "name" "POSTHASTE_DATABASE_URL" "secret" $secret "key" "database-url") | nindent 8 }}
        {{- end }}
        {{- range $name, $key := .Values.secretVariables }}
        {{- include "posthaste.secretVariable" (dict "name" $name "secret" $secret "key" $key) | nindent 8 }}
        {{- end }}
      ports:
        - name: http
          containerPort: 8080
        - name: metrics
          containerPort: 9090
      # The schema is brought up to date before it answers, which may take a while once.
      startupProbe:
        httpGet: {path: /healthz, port: http}
        periodSeconds: 2
        failureThreshold: 300
      livenessProbe:
        httpGet: {path: /healthz, port: http}
        periodSeconds: 10
        timeoutSeconds: 5
        failureThreshold: 6
      readinessProbe:
        httpGet: {path: /readyz, port: http}
        periodSeconds: 5
        timeoutSeconds: 5
        failureThreshold: 2
      lifecycle:
        preStop:
          sleep:
            seconds: {{ .Values.preStopSeconds }}
      securityContext:
        {{- include "posthaste.containerSecurity" . | nindent 8 }}
      {{- with .Values.resources }}
      resources:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      volumeMounts:
        - name: data
          mountPath: /data
  {{- if eq .Values.store "postgres" }}
  volumes:
    - name: data # nothing is kept in it
      emptyDir:
        sizeLimit: 64Mi
  {{- end }}
  {{- with .Values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  {{- if .Values.topologySpreadConstraints }}
  topologySpreadConstraints:
    {{- toYaml .Values.topologySpreadConstraints | nindent 4 }}
  {{- else if eq .Values.store "postgres" }}
  topologySpreadConstraints:
    {{- range $key := list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
    - topologyKey: {{ $key }}
      maxSkew: 1
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels:
          {{- include "posthaste.selector" $ | nindent 10 }}
    {{- end }}
  {{- end }}
{{- end -}}
