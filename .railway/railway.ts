import { defineRailway, github, postgres, preserve, project, service } from "railway/iac";

// The learning layer beside the pipeline: one service, one database. docs/operations.md explains.
export default defineRailway(() => {
  const db = postgres("postgres");
  const app = service("mathesis", {
    source: github("acme/mathesis", { branch: "main" }),
    build: { builder: "DOCKERFILE", dockerfilePath: "Dockerfile" },
    deploy: {
      restartPolicyType: "ON_FAILURE",
      restartPolicyMaxRetries: 10,
      // Longer than MATHESIS_SHUTDOWN_GRACE_SECONDS, so that running effects end or are handed back.
      drainingSeconds: 30,
      overlapSeconds: 20,
    },
    preDeploy: ["/app/mathesis migrate"],
    start: "/app/mathesis serve",
    healthcheck: "/healthz",
    healthcheckTimeout: 120,
    replicas: 1,
    env: {
      DATABASE_URL: db.env.DATABASE_URL,
      ANTHROPIC_API_KEY: preserve(),
      MATHESIS_BOOTSTRAP_KEY: preserve(),
    },
  });
  return project("mathesis", { resources: [db, app] });
});
